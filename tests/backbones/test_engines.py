"""Every engine gives the graph's values; a row never depends on its neighbours; a kept export needs no TensorFlow."""

import ctypes
import dataclasses
import json
import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cxrfeat import _files as files
from cxrfeat import _machine as machine
from cxrfeat._backbones import engine, graph, kept, open_engine, openvino_engine, registry, weights
from cxrfeat._backbones.weights import Weights
from cxrfeat.errors import EngineError, RecipeError, WeightsError

RANDOM = Weights("random:0")


@pytest.fixture(scope="module", params=["densenet121", "resnet50"])
def case(request, recipe_for, pictures, graphs):
    recipe = recipe_for(request.param)
    network = graph.keras_graph(registry.get(recipe.backbone), RANDOM, recipe.preprocessing, recipe.size)
    return recipe, [np.asarray(output) for output in network(pictures[..., None], training=False)]


@pytest.mark.parametrize("name", ["openvino", "keras"])
def test_engines_agree_with_the_graph_within_1e_4(case, pictures, name):
    recipe, expected = case
    found = open_engine(recipe, RANDOM, name, outputs=("embedding", "map")).run(pictures)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


def test_a_row_is_the_same_bits_whatever_is_beside_it(recipe_for, pictures, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    ready = open_engine(recipe_for("densenet121"), RANDOM, "openvino")
    together = ready.run(pictures)[0]
    with ThreadPoolExecutor(2) as pool:  # in the other order, on both streams at once
        alone = list(pool.map(lambda i: ready.run(pictures[i : i + 1])[0], reversed(range(len(pictures)))))
    np.testing.assert_array_equal(together, np.concatenate(alone[::-1]))


def test_a_map_of_one_cell_is_still_a_map(short, recipe_for):
    recipe = recipe_for(short.name, 32)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)  # the second must not overwrite one
    embedding, feature_map = open_engine(recipe, RANDOM, "openvino", ("embedding", "map")).run(images)
    assert embedding.shape == (2, short.dim) and feature_map.shape == (2, 1, 1, short.dim)
    np.testing.assert_allclose(feature_map[:, 0, 0], embedding, rtol=1e-5, atol=1e-7)


def folder_of(recipe):
    """Where the export of a recipe is kept."""
    (found,) = (
        row["folder"]
        for row in kept.exports()
        if row["backbone"] == recipe.backbone and f"-{recipe.preprocessing}-{recipe.size}-" in row["network"]
    )
    return found


@pytest.fixture
def own_export(small, recipe_for, tmp_path, monkeypatch):
    """A recipe whose export is this test's alone, made."""
    monkeypatch.setattr(machine, "cache_folder", lambda: tmp_path)
    recipe = recipe_for(small.name, 32)
    open_engine(recipe, RANDOM, "openvino")
    return recipe


@pytest.mark.parametrize("what", ["model.onnx", "canary.npz", "meta.json"])
def test_a_damaged_export_is_made_again(own_export, what, caplog):
    image = np.zeros((1, 32, 32), np.uint8)
    first = open_engine(own_export, RANDOM, "openvino").run(image)[0]
    damaged = folder_of(own_export) / what
    damaged.write_bytes(damaged.read_bytes()[:-100])
    np.testing.assert_array_equal(open_engine(own_export, RANDOM, "openvino").run(image)[0], first)
    assert "damaged" in caplog.text
    assert folder_of(own_export) and next(kept.exports())["state"] == "ok"


def scribble(path):
    """Overwrite 4 kB in the middle of a file's weights."""
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 4096] = np.random.default_rng(0).bytes(4096)
    path.write_bytes(data)


def test_a_damaged_compilation_is_made_again(own_export, caplog):
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32), dtype=np.uint8)
    first = open_engine(own_export, RANDOM, "openvino").run(image)[0]
    (blob,) = (folder_of(own_export) / "compiled").iterdir()
    scribble(blob)
    np.testing.assert_array_equal(open_engine(own_export, RANDOM, "openvino").run(image)[0], first)
    assert "compiled again" in caplog.text


def test_a_network_that_was_wrong_before_it_was_hashed_is_found_by_its_canary(own_export, caplog):
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32), dtype=np.uint8)
    first = open_engine(own_export, RANDOM, "openvino").run(image)[0]
    folder = folder_of(own_export)
    (blob,) = (folder / "compiled").iterdir()
    scribble(blob)
    (folder / "compiled.json").write_text(json.dumps({blob.name: files.sha256(blob)}))
    np.testing.assert_array_equal(open_engine(own_export, RANDOM, "openvino").run(image)[0], first)
    assert "made again" in caplog.text


def test_a_fresh_engine_uses_nothing_that_is_kept(own_export, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32), dtype=np.uint8)
    first = open_engine(own_export, RANDOM, "openvino").run(image)[0]
    for name in ("export", "value"):
        original = getattr(kept, name)
        monkeypatch.setattr(kept, name, lambda *a, f=original: f(*a) if a[-1] == "fresh" else pytest.fail("kept"))
    before = sorted(path for path in machine.cache_folder().rglob("*"))
    found = open_engine(own_export, None, "openvino", fresh=True).run(image)[0]
    np.testing.assert_allclose(found, first, rtol=0, atol=1e-6 * first.max())
    assert sorted(path for path in machine.cache_folder().rglob("*")) == before


def test_damaged_kept_values_are_computed_again(own_export):
    for text in ("", "[]", '{"value": "0000", "sha256": "1"}'):
        path = machine.cache_folder() / "thing.json"
        path.write_text(text)
        assert kept.value("thing", lambda: "right") == "right"
    assert kept.value("thing", lambda: pytest.fail("it is kept")) == "right"


def test_a_kept_export_runs_without_tensorflow(recipe_for, pictures):
    recipe = recipe_for("densenet121")
    open_engine(recipe, RANDOM, "openvino")
    code = (
        "import sys, json, numpy as np; from cxrfeat._recipe import Recipe;"
        "from cxrfeat._backbones import open_engine; r = Recipe.from_json(sys.argv[1]);"
        "open_engine(r, engine='openvino').run(np.zeros((1, r.size, r.size), np.uint8));"
        "print(json.dumps([m for m in ('tensorflow', 'keras', 'onnx', 'sklearn', 'matplotlib') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code, recipe.to_json()], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_streams_are_bounded_by_the_cores_of_the_process(small, recipe_for, monkeypatch):
    recipe = recipe_for(small.name)
    monkeypatch.setattr(machine, "cores", lambda: 1)
    assert open_engine(recipe, RANDOM, "openvino").streams == 1


def test_the_cpu_engine_is_taken_where_no_gpu_is_visible(monkeypatch):
    monkeypatch.setattr(machine, "gpu_likely", lambda: False)
    assert engine.resolve() == "openvino"


def test_a_gpu_that_keras_sees_is_taken(monkeypatch):
    from cxrfeat._backbones import keras_engine

    monkeypatch.setattr(machine, "gpu_likely", lambda: True)
    monkeypatch.setattr(keras_engine, "gpus", lambda: 1)
    assert engine.resolve() == "keras"
    monkeypatch.setattr(keras_engine, "gpus", lambda: 0)
    assert engine.resolve() == "openvino"


def test_hidden_gpus_are_not_looked_for(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not machine.gpu_likely()


@pytest.fixture
def small_card():
    """An engine on a card that holds `room` images at a time; a row's output is its picture's mean."""
    import tensorflow as tf

    from cxrfeat._backbones.keras_engine import KerasEngine

    def make(room: int, batch: int = 16, error: Exception | None = None) -> KerasEngine:
        def network(images):
            if len(images) > room:
                raise error or tf.errors.ResourceExhaustedError(None, None, "out of memory")
            return [images.mean(axis=(1, 2), dtype=np.float32)]

        networks = queue.SimpleQueue()
        networks.put(("CPU:0", network))
        return KerasEngine("small card", batch, 1, networks)

    return make


def test_a_batch_that_a_card_does_not_hold_is_halved_and_stays_so(small_card, pictures):
    ready = small_card(room=3)
    np.testing.assert_allclose(ready.run(pictures)[0][:, 0], pictures.mean(axis=(1, 2)), rtol=1e-5)
    assert ready.batch == 2
    with pytest.raises(EngineError, match="does not hold one image of 64 pixels"):
        small_card(room=0).run(pictures)


# As JAX 0.10 (jaxlib's error) and PyTorch 2.15 name and word it.
@pytest.mark.parametrize(
    ("kind", "words", "full"),
    [
        ("JaxRuntimeError", "RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.", True),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 8.00 GiB.", True),
        ("JaxRuntimeError", "INTERNAL: Failed to launch CUDA kernel", False),
    ],
)
def test_each_backends_full_memory_is_told_from_other_errors(small_card, pictures, kind, words, full):
    error = type(kind, (RuntimeError,), {})(words)
    ready = small_card(room=3, error=error)
    if full:
        ready.run(pictures)
        assert ready.batch == 2
    else:
        with pytest.raises(RuntimeError, match="INTERNAL"):
            ready.run(pictures)


@pytest.mark.parametrize(("size", "batch"), [(224, 64), (448, 16), (1024, 2), (4000, 1)])
def test_batches_on_a_gpu_shrink_with_the_image(size, batch):
    from cxrfeat._backbones import keras_engine

    assert keras_engine.batch_of(size, on_gpu=True) == batch
    assert keras_engine.batch_of(size, on_gpu=False) == keras_engine.CPU_BATCH


def test_weights_of_another_hash_are_refused(recipe_for):
    with pytest.raises(RecipeError, match="sha256"):
        weights.weights_for(dataclasses.replace(recipe_for("densenet121"), weights_sha256="0" * 64))
    with pytest.raises(WeightsError, match="no file is there"):
        weights.weights_for(dataclasses.replace(recipe_for("densenet121"), weights="mine.h5"))


def test_an_engine_that_is_not_known_is_said(recipe_for):
    with pytest.raises(EngineError):
        open_engine(recipe_for("densenet121"), RANDOM, "tpu")


@pytest.mark.parametrize(("precision", "capability"), [("bfloat16", "BF16"), ("float16", "FP16")])
def test_a_precision_is_computed_or_the_missing_instruction_named(recipe_for, small, pictures, precision, capability):
    recipe = recipe_for(small.name)
    reduced = dataclasses.replace(recipe, precision=precision)
    if capability in openvino_engine.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        exact, moved = (open_engine(r, RANDOM, "openvino").run(pictures)[0] for r in (recipe, reduced))
        assert 1e-6 < np.abs(moved - exact).max() / np.abs(exact).max() < 0.03
    else:
        with pytest.raises(EngineError, match=f"this processor has no AVX512_{capability}"):
            open_engine(reduced, RANDOM, "openvino")


def test_workers_that_are_the_first_to_run_do_not_wait_for_each_other():
    """OpenVINO fills its table of types on first use; done by two threads at once, the process hung for ever."""
    code = (
        "import os, sys, threading\n"
        "from cxrfeat._backbones.openvino_engine import package\n"
        "ov, together = package(), threading.Barrier(16)\n"
        "sys.setswitchinterval(1e-7)\n"
        "first = lambda: (together.wait(), ov.Type.u8.to_dtype())\n"
        "threads = [threading.Thread(target=first, daemon=True) for _ in range(16)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; os._exit(0)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="OpenVINO gives threads a stack for signals on Linux alone")
def test_engines_leave_the_stack_of_signal_handlers_where_it_is(recipe_for, small):
    """A core of OpenVINO frees the stack that it gave, in use or not: the process crashed at the next Ctrl-C."""

    def stack():
        now = openvino_engine._SignalStack()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now))
        return now.address, now.flags, now.size

    openvino_engine.core().get_property("CPU", "FULL_DEVICE_NAME")
    before, recipe = stack(), recipe_for(small.name)
    engines = [open_engine(recipe, RANDOM, "openvino") for _ in range(2)]
    assert stack() == before
    del engines[0], engines[0]
    assert stack() == before
    with openvino_engine.signal_stack():  # other packages make cores of their own
        cores = [openvino_engine.package().Core() for _ in range(2)]
        assert [core.get_property("CPU", "FULL_DEVICE_NAME") for core in cores] and stack() != before
        del cores[0], cores[0]
    assert stack() == before


def test_an_export_is_checked_by_another_reader_of_onnx(recipe_for):
    import onnx

    recipe = recipe_for("resnet50")
    open_engine(recipe, RANDOM, "openvino")
    onnx.checker.check_model(str(folder_of(recipe) / "model.onnx"), full_check=True)


def test_hashes_that_are_nested_too_deeply_are_none(tmp_path):
    (tmp_path / "compiled.json").write_text("[" * 100_000)
    assert files.read_json(tmp_path / "compiled.json") == {}
