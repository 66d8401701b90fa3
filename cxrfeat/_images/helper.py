"""Preparation in a process of its own, for machines on which threads would wait for Python's lock.

The fastest decoder of PNG holds the interpreter's lock, so the threads of one process decode one after another. A
`Helper` is a process that one thread sends the bytes of image files to, and gets the network's squares from. It is
this interpreter anew, not a fork, since threads run and engines are open; and not of `multiprocessing`, whose children
import the caller's script. It ends when its pipe ends, however this process does, and hears no Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from contextlib import suppress

from cxrfeat._images import decode
from cxrfeat._images.decode import Grey
from cxrfeat._images.prepare import Squares, squares
from cxrfeat._recipe import Recipe
from cxrfeat.errors import CxrfeatError, ImageError

_log = logging.getLogger(__name__)

_CODE = "import sys; sys.path[:] = {!r}; from cxrfeat._images.helper import serve; serve()"
_PIPE = 1 << 20  # bytes that one side can write before the other reads: an image file, or its squares


class Helper:
    """A process that does the work of `prepare.squares` for one thread; it is started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = 0

    def __call__(self, source: bytes | Grey, recipe: Recipe, image_id: str, first: int = 0) -> Squares:
        """See `prepare.squares`. Another process takes the work of one that was killed; after three, this one does."""
        while self._ended < 3:
            try:
                answer = self._ask((source, recipe, image_id, first))
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                self.close()
                self._ended += 1
                _log.warning("a process that decodes images ended (%s).", type(error).__name__)
                continue
            if isinstance(answer, Exception):
                raise answer
            return answer
        return squares(source, recipe, image_id, first)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, work: tuple[bytes | Grey, Recipe, str, int]) -> Squares | Exception:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable or "", "-c", _CODE.format(sys.path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE, start_new_session=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        pipes = self._process
        assert pipes.stdin and pipes.stdout
        pickle.dump(work, pipes.stdin, pickle.HIGHEST_PROTOCOL)
        pipes.stdin.flush()
        answer: Squares | Exception = pickle.load(pipes.stdout)
        return answer


def serve() -> None:
    """Answer a `Helper` until it is gone."""
    import cv2

    cv2.setNumThreads(1)
    decode.ALONE = True
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints is no answer
    with suppress(EOFError, BrokenPipeError):
        while True:
            work = pickle.load(requests)
            try:
                answer: Squares | Exception = squares(*work)
            except CxrfeatError as error:
                answer = error
            except Exception as error:  # as in the pipeline: only its kind, since it may quote the file
                answer = ImageError(f"cannot be decoded ({type(error).__name__}).")
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
