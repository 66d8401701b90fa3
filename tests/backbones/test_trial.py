"""The fastest way is found, remembered for its own question alone, and asked for only where there is much to do."""

import time

import numpy as np
import pytest

from cxrfeat import _machine as machine
from cxrfeat._backbones import choice, open_engine, trial
from cxrfeat._backbones.trial import Way
from cxrfeat._backbones.weights import Weights
from cxrfeat.errors import EngineError

SLOW, QUICK, BROKEN = Way("slow", 1), Way("quick", 2), Way("broken", 1)


class Sleeper:
    """An engine whose calls take as long as it is told."""

    seats = 2

    def __init__(self, name, batch, seconds):
        self.name, self.batch, self.seconds = name, batch, seconds

    def run(self, images):
        assert len(images) == self.batch
        time.sleep(self.seconds)
        return (np.zeros((len(images), 1), np.float32),)


def open_way(way):
    if way == BROKEN:
        raise EngineError("it is not installed.")
    return Sleeper(way.engine, way.batch, {"slow": 0.03, "quick": 0.003}[way.engine])


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(trial, "ROUND_SECONDS", 0.05)


def test_the_fastest_is_found_and_remembered():
    question = {"backbone": "b", "size": 8}
    assert trial.remembered(question) is None
    best, rates = trial.settle(question, [SLOW, BROKEN, QUICK], 8, open_way)
    assert best == QUICK
    assert list(rates) == [SLOW, QUICK]
    assert rates[QUICK] > 3 * rates[SLOW]
    assert trial.remembered(question) == QUICK
    assert trial.remembered({**question, "size": 9}) is None


def test_of_level_ways_the_first_is_taken(monkeypatch):
    rates = {SLOW: 98.0, QUICK: 100.0}
    monkeypatch.setattr(trial, "race", lambda *others: rates)
    assert trial.settle({}, [SLOW, QUICK], 8, open_way)[0] == SLOW
    rates[SLOW] = 90.0
    assert trial.settle({}, [SLOW, QUICK], 8, open_way)[0] == QUICK


def test_a_batch_that_was_halved_is_not_what_was_timed():
    class Small(Sleeper):
        def run(self, images):
            self.batch = 1
            time.sleep(self.seconds)
            return (np.zeros((len(images), 1), np.float32),)

    def open_small(way):
        return Small(way.engine, way.batch, 0.003) if way == QUICK else open_way(way)

    assert trial.settle({}, [SLOW, QUICK], 8, open_small)[0] == SLOW
    assert trial.settle({"alone": 1}, [QUICK], 8, open_small)[0] == QUICK


def test_where_none_can_be_opened_the_first_reason_is_told():
    with pytest.raises(EngineError, match="not installed"):
        trial.settle({}, [BROKEN], 8, open_way)


def test_a_damaged_memory_is_none(tmp_path):
    trial.settle({"a": 1}, [QUICK], 8, open_way)
    kept = next((tmp_path / "trials").iterdir())
    for damaged in (b"", b"[]", b'{"question": {"a": 1}, "way": {"engine": "quick"}}'):
        kept.write_bytes(damaged)
        assert trial.remembered({"a": 1}) is None


def test_a_cache_folder_that_cannot_be_written_costs_only_the_memory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(machine, "cache_folder", lambda: tmp_path / "file")
    assert trial.settle({}, [QUICK], 8, open_way)[0] == QUICK
    assert trial.remembered({}) is None


@pytest.fixture
def opened(monkeypatch):
    """The ways that are opened, by engines that only sleep; MNN is the quicker one."""
    ways = []

    def pretend(way, *others):
        ways.append(way)
        return Sleeper(way.engine, way.batch, 0.002 if way.engine == "mnn" else 0.03)

    monkeypatch.setattr(choice, "_open", pretend)
    monkeypatch.setattr(machine, "gpu_likely", lambda: False)
    return ways


def test_much_work_is_tried_out_once(recipe_for, opened):
    recipe, told = recipe_for("densenet121", 224), []
    random = Weights("random:0")
    assert open_engine(recipe, random, runs=choice.TRIAL_FROM - 1, tell=told.append).name == "openvino"
    assert (opened, told) == ([choice.PROCESSOR_WAYS[0]], [])
    assert open_engine(recipe, random, runs=choice.TRIAL_FROM, tell=told.append).name == "mnn"
    assert set(opened) == set(choice.PROCESSOR_WAYS)
    assert "mnn, 1 image a call" in told[-1]
    opened.clear()
    for runs in (0, choice.TRIAL_FROM):  # what is known serves little work too, and is not tried again
        assert open_engine(recipe, random, runs=runs, tell=told.append).name == "mnn"
    assert opened == [Way("mnn", 1)] * 2
    assert len(told) == 2


def test_what_was_found_is_true_of_one_machine_network_and_size(recipe_for, opened, monkeypatch):
    random = Weights("random:0")
    open_engine(recipe_for("densenet121", 224), random, runs=10**6)
    assert open_engine(recipe_for("resnet50", 224), random).name == "openvino"
    assert open_engine(recipe_for("densenet121", 256), random).name == "openvino"
    monkeypatch.setattr(machine, "instructions", lambda: "avx99")
    assert open_engine(recipe_for("densenet121", 224), random).name == "openvino"


def test_an_engine_that_is_named_is_taken(recipe_for, opened):
    random = Weights("random:0")
    open_engine(recipe_for("densenet121", 224), random, runs=10**6)
    assert open_engine(recipe_for("densenet121", 224), random, "openvino").name == "openvino"


def test_without_openvino_mnn_is_taken(monkeypatch):
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None if name == "openvino" else name)
    assert choice.ways_of("processor", 224) == [Way("mnn", 1)]
