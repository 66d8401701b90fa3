"""Making, converting and running a network asks nothing of the internet and writes nowhere but in documented places."""

import json
import os
import subprocess
import sys
from pathlib import Path

PLUGIN = Path(__file__).parents[1] / "plugin"
CODE = """
import json, sys
asked = []
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"):
        asked.append(f"{event} {arguments}")
        raise OSError("there is no network")
sys.addaudithook(note)
import numpy as np
import cxrfeat as cxr
from cxrfeat._backbones.registry import BACKBONES
from cxrfeat_ward import TINY  # which is converted by OpenVINO, and not translated by us
BACKBONES._loaded["tiny"] = TINY
recipe = cxr.make_recipe("tiny", weights="random:0", size=32)
assert cxr.embed(np.zeros((1, 40, 40), np.uint8), recipe, engine="openvino").shape == (1, 32)
import threading
for thread in threading.enumerate():  # telemetry is sent by threads of its own
    if thread is not threading.current_thread() and not thread.daemon:
        thread.join(5)
print(json.dumps(asked))
"""


def test_a_network_is_made_converted_and_run_without_the_internet(tmp_path):
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    kept_out = {"KERAS_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
    environment = {key: value for key, value in os.environ.items() if key not in kept_out}
    environment |= {"HOME": str(home), "CXRFEAT_CACHE": str(cache), "PYTHONPATH": str(PLUGIN)}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == []
    written = {"/".join(path.relative_to(home).parts[:2]) for path in home.rglob("*") if path.is_file()}
    # Keras's own settings, and the fonts of matplotlib, which Keras imports: both document their places.
    assert written <= {".keras/keras.json", ".cache/matplotlib", ".config/matplotlib"}
    assert {path.name for path in tmp_path.iterdir()} == {"home", "cache"}
    assert list(cache.rglob("model.xml")) and not list(cache.rglob("model.onnx"))
