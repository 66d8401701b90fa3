"""Keras's backends give the same embeddings, maps and heads; which one is taken; JAX stands without TensorFlow.

Neither asks anything of the internet, nor writes but in documented places.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cxrfeat import _machine as machine
from cxrfeat._backbones import backends, kept, open_engine
from cxrfeat._backbones.weights import Weights
from cxrfeat.errors import EngineError

SCRIPT = Path(__file__).with_name("on_backend.py")
PLUGIN = Path(__file__).parents[1] / "plugin"


@pytest.fixture
def on(pictures, make_study, tmp_path):
    """Run the script on a backend."""
    study = make_study(20)
    study.save(tmp_path / "tiny" / "study.csv")
    np.save(tmp_path / "tiny" / "pictures.npy", pictures)

    def run(name):
        out, home, work = tmp_path / f"{name}.npz", tmp_path / f"home-{name}", tmp_path / f"work-{name}"
        home.mkdir()
        work.mkdir()
        kept_out = {"KERAS_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
        environment = {key: value for key, value in os.environ.items() if key not in kept_out}
        environment |= {"HOME": str(home), "CXRFEAT_CACHE": str(tmp_path / f"cache-{name}"), "PYTHONPATH": str(PLUGIN)}
        command = [sys.executable, str(SCRIPT), name, str(tmp_path / "tiny"), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=work, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout.splitlines()[-1]) == [], "something was asked of the internet"
        written = {"/".join(path.relative_to(home).parts[:2]) for path in home.rglob("*") if path.is_file()}
        # Keras's own settings, and the fonts of matplotlib, which Keras imports: both document their places.
        assert written <= {".keras/keras.json", ".cache/matplotlib", ".config/matplotlib"}
        assert not list(work.iterdir())
        with np.load(out) as found:
            return dict(found)

    return run


def test_jax_and_tensorflow_agree_on_two_devices_each(on, small, recipe_for, pictures, tmp_path):
    tensorflow, jax = on("tensorflow"), on("jax")
    assert list(tmp_path.glob("cache-tensorflow/**/tiny-*/model.xml")), "OpenVINO converts what we do not translate"
    expected = open_engine(recipe_for("small"), Weights("random:0"), "openvino", ("embedding", "map")).run(pictures)
    for found in (tensorflow, jax):
        for name, values in {"embedding": expected[0], "map": expected[1], "openvino": expected[0]}.items():
            np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-4 * np.abs(values).max())
        for precision in ("float16", "bfloat16"):
            assert 1e-7 < np.abs(found[precision] - expected[0]).max() / expected[0].max() < 0.02
    for name in ("gradients", "randomised", "logits"):  # probabilities' gradients, before and after other weights
        atol = 1e-4 * np.nanmax(np.abs(tensorflow[name]))
        np.testing.assert_allclose(jax[name], tensorflow[name], rtol=0, atol=atol)
    assert np.abs(jax["randomised"] - jax["gradients"]).max() > 0.1 * np.abs(jax["gradients"]).max()
    assert jax["losses"][-1] < jax["losses"][0]
    np.testing.assert_allclose(jax["losses"], tensorflow["losses"], rtol=1e-3)
    np.testing.assert_allclose(jax["predictions"], tensorflow["predictions"], atol=1e-3)


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Have some backends installed, of which some see a GPU, and nothing chosen."""

    def make(*names, gpus=()):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in names else None)
        for name in backends.BACKENDS:
            found = ["gpu:0"] if name in gpus else ["cpu:0"]
            kind = type(backends.BACKENDS[name])
            monkeypatch.setattr(kind, "devices", lambda self, found=found: found)
        backends._chosen.cache_clear()
        return backends._chosen

    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "gpu_likely", lambda: True)
    yield make
    monkeypatch.undo()
    backends._chosen.cache_clear()


def test_the_first_backend_that_sees_a_gpu_is_taken(installed, tmp_path):
    assert installed("tensorflow", "jax", "torch", gpus=("jax", "torch"))() == "jax"
    assert installed("tensorflow", "torch")() == "tensorflow"
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "tensorflow"}))  # as Keras writes it unasked
    assert installed("torch")() == "torch"
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax"}))
    assert installed("tensorflow", "jax", gpus=("tensorflow",))() == "jax"
    with pytest.raises(EngineError, match="none is installed"):
        (tmp_path / "keras.json").unlink()
        installed()()


def test_a_backend_that_is_named_must_be_there(installed, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert installed("tensorflow", "torch", gpus=("tensorflow",))() == "torch"
    with pytest.raises(EngineError, match="torch, which is not installed: pip install torch"):
        installed("tensorflow")()
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    with pytest.raises(EngineError, match="cxrfeat needs one of tensorflow, jax, torch"):
        installed("tensorflow")()


def test_layers_that_openvino_takes_from_tensorflow_alone_are_refused_on_another_backend(monkeypatch, tmp_path):
    monkeypatch.setattr(backends.keras().backend, "backend", lambda: "jax")
    with pytest.raises(EngineError, match=r"Keras runs on jax here\. Take `engine=keras`, or set KERAS_BACKEND"):
        kept._convert(tmp_path, SimpleNamespace(name="mine"))
