"""Runs `cxrfeat` in forked processes: python commands.py SOCKET. Each has its imports ready, and a terminal of its own.

A client sends arguments and working directory, and its standard output and error; it gets the exit code. A layer of
random weights stands in for DenseNet121: the page is about the commands, and `demo` runs the network itself. The
bootstrap draws 100 replicates.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys

import numpy as np

MODULES = ("cxrfeat_cli.main", "cxrfeat._demo", "cxrfeat._pages", "cxrfeat._predict", "cxrfeat._extract.extraction",
           "cxrfeat._heads.fit", "cxrfeat._evaluate.evaluation", "cxrfeat._explain.maps", "cxrfeat._report.panels",
           "cxrfeat._datasets.reading")  # fmt: skip
CLIENT = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    socket.send_fds(server, [json.dumps([os.getcwd(), sys.argv[1:]]).encode()], [1, 2])
    sys.exit(int(server.recv(9)))
"""


class StandIn:
    """An engine of DenseNet121's outputs: of each cell of 32 pixels 1,024 mixtures of 16 brightnesses."""

    name, batch, streams = "stand-in", 1, 2

    def __init__(self, recipe, spec, write, outputs, fresh=False):
        self.outputs, self.mixtures = outputs, np.random.default_rng(0).normal(size=(16, spec.dim))

    def run(self, images):
        n, cells = len(images), images.shape[1] // 32
        grey = images.reshape(n, cells, 4, 8, cells, 4, 8).mean(axis=(3, 6)) / 255 - 0.5
        mixed = grey.transpose(0, 1, 3, 2, 4).reshape(n, cells, cells, 16) @ self.mixtures
        found = {"map": np.maximum(mixed, 0).astype(np.float32)}
        found["embedding"] = found["map"].mean(axis=(1, 2))
        return tuple(found[name] for name in self.outputs)


def run(client: socket.socket) -> int:
    """Run one command as the entry point of the installed one does."""
    words, streams, *_ = socket.recv_fds(client, 1 << 16, 2)
    folder, arguments = json.loads(words)
    process = os.fork()
    if process:
        for stream in streams:
            os.close(stream)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1) for number in (1, 2))  # noqa: SIM115, PTH123
    os.chdir(folder)
    sys.argv = ["cxrfeat", *arguments]
    from cxrfeat_cli.main import main

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    importlib.import_module("cxrfeat._backbones.openvino_engine").open_engine = StandIn
    few = {command: {"replicates": 100} for command in ("evaluate", "roc", "compare", "report")}
    sys.modules["cxrfeat_cli.main"].cli.context_settings["default_map"] = few
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        while True:
            with listening.accept()[0] as client:
                client.send(str(run(client)).encode())
