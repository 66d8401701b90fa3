"""Weights are found, checked and fetched from a real local server; a bad network is an answer, never a hang."""

import dataclasses
import hashlib
import http.server
import json
import threading

import pytest
from click.testing import CliRunner
from cxrfeat_cli.weights import command

import cxrfeat as cxr
from cxrfeat import _machine as machine
from cxrfeat._backbones import registry, weights
from cxrfeat.errors import WeightsError

CONTENT = b"weights of a small network" * 1000


@pytest.fixture
def spec():
    return dataclasses.replace(
        registry.get("densenet121"),
        weights_url="http://127.0.0.1:1/tiny_notop.h5",
        weights_hash=f"md5:{hashlib.md5(CONTENT).hexdigest()}",
    )


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "models"


@pytest.fixture
def serve():
    """Start a server on this machine that answers every request with the bytes given; count the requests."""
    servers = []

    def start(content: bytes):
        class Handler(http.server.BaseHTTPRequestHandler):
            requests = 0

            def do_GET(self):
                Handler.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/tiny_notop.h5", Handler

    yield start
    for server in servers:
        server.shutdown()


def test_a_download_is_checked_kept_in_keras_folder_and_not_repeated(spec, serve, keras_home):
    url, handler = serve(CONTENT)
    spec = dataclasses.replace(spec, weights_url=url)
    first = weights.find(spec, "imagenet")
    assert first.path == keras_home / "tiny_notop.h5"
    assert first.path.read_bytes() == CONTENT
    assert weights.weights_sha256(spec, first) == hashlib.sha256(CONTENT).hexdigest()
    assert weights.find(spec, "imagenet") == first
    assert handler.requests == 1


def test_what_keras_has_fetched_is_reused(spec, keras_home):
    keras_home.mkdir(parents=True)
    (keras_home / "tiny_notop.h5").write_bytes(CONTENT)
    assert weights.find(spec, "imagenet").name == "imagenet"


def test_a_wrong_download_leaves_nothing(spec, serve, keras_home):
    url, _ = serve(b"something else")
    with pytest.raises(WeightsError, match=r"not the official one.*Three ways on"):
        weights.find(dataclasses.replace(spec, weights_url=url), "imagenet")
    assert not [path for path in keras_home.iterdir() if path.suffix != ".lock"]


def test_no_connection_is_an_error_with_three_ways_on(spec):
    with pytest.raises(WeightsError, match=r"\(1\).*\(2\).*\(3\)"):
        weights.find(spec, "imagenet")


def test_a_damaged_file_is_named(spec, keras_home):
    keras_home.mkdir(parents=True)
    (keras_home / "tiny_notop.h5").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="md5"):
        weights.find(spec, "imagenet")


@pytest.mark.parametrize("wanted", ["random:", "random:x", "random:-1", "random:²", "no/such/file.h5"])
def test_a_name_that_means_nothing_is_refused(spec, wanted):
    with pytest.raises(WeightsError, match="random:"):
        weights.find(spec, wanted)


def test_the_listing_says_what_is_here(keras_home):
    keras_home.mkdir(parents=True)
    (keras_home / registry.get("resnet50").weights_file).write_bytes(b"half")
    states = cxr.weights.ls().set_index("weights")["state"]
    found = states[list(registry.BACKBONES.names)].to_dict()
    expected = dict.fromkeys(registry.BACKBONES.names, "missing")
    assert found == expected | {"resnet50": "damaged", "resnet50-v1.5": "none"}


def test_fetch_gives_the_file(spec, serve, keras_home, monkeypatch):
    url, _ = serve(CONTENT)
    told = []
    monkeypatch.setitem(registry.BACKBONES._loaded, "densenet121", dataclasses.replace(spec, weights_url=url))
    assert cxr.weights.fetch("densenet121", progress=lambda done, total, note: told.append((done, total))) == (
        keras_home / "tiny_notop.h5"
    )
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_backbone_without_official_weights_says_so(spec):
    with pytest.raises(WeightsError, match="no official"):
        weights.find(dataclasses.replace(spec, weights_url=""), "imagenet")


def test_a_file_without_a_published_hash_is_pinned_at_first_use(spec, keras_home, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "mine"))
    spec = dataclasses.replace(spec, weights_hash="")
    keras_home.mkdir(parents=True)
    (keras_home / "tiny_notop.h5").write_bytes(CONTENT)
    for _ in range(2):
        weights.find(spec, "imagenet")
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "nobody has published" in caplog.text
    (keras_home / "tiny_notop.h5").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="used first"):
        weights.find(spec, "imagenet")


def test_kept_networks_are_listed_and_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "cache_folder", lambda: tmp_path)
    assert not len(cxr.weights.networks())
    for name in ("densenet121", "resnet50"):
        folder = tmp_path / "engines" / f"{name}-0123"
        (folder / "compiled").mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"x" * 1000)
        (folder / "compiled" / "1.blob").write_bytes(b"y" * 500)
        meta = {"backbone": name, "weights": "random:0", "size": 224, "sha256": {"model.onnx": "0" * 64}}
        (folder / "meta.json").write_text(json.dumps(meta))
    table = cxr.weights.networks().set_index("backbone")
    assert list(table.index) == ["densenet121", "resnet50"]
    assert (table["bytes"] > 1500).all() and (table["state"] == "damaged").all()
    assert list(cxr.weights.prune("resnet50")["backbone"]) == ["resnet50"]
    done = CliRunner().invoke(command, ["prune"])
    assert done.exit_code == 0 and "densenet121" in done.stdout
    assert not list((tmp_path / "engines").iterdir())
