"""The folder of imported weights: whole or not at all, checked at every reading, identified by values."""

import json

import numpy as np
import pytest

from cxrfeat._backbones import library
from cxrfeat._backbones.library import Card
from cxrfeat.errors import OutputError, WeightsError

ARRAYS = {"conv/kernel": np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4), "bn/gamma": np.ones(4, np.float32)}
TOP = {"kernel": np.full((4, 2), 0.5, np.float32), "bias": np.zeros(2, np.float32)}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def card(name="mine", **more):
    return Card(name, "densenet121", "", **more)


def test_a_card_comes_back_as_it_was_saved():
    saved = library.save_arrays(
        card(labels=("Mass", ""), op_threshs=(0.25, None), options={"size": 320}, source="a.pt"), ARRAYS, TOP
    )
    found = library.load("mine")
    assert found == saved == library.find("mine") == library.by_values("densenet121", saved.values_sha256)
    assert list(library.cards()) == [found]
    read = library.arrays(found)
    assert sorted(read) == sorted(ARRAYS)
    assert all(np.array_equal(read[name], ARRAYS[name]) for name in ARRAYS)
    assert np.array_equal(library.arrays(found, classifier=True)["kernel"], TOP["kernel"])
    assert found.bytes > 0


def test_the_hash_is_of_names_shapes_and_values_alone():
    one = library.values_sha256(ARRAYS)
    assert one == library.values_sha256({n: ARRAYS[n].astype(np.float64) for n in reversed(ARRAYS)})
    assert one != library.values_sha256(ARRAYS | {"bn/gamma": np.full(4, 1.5, np.float32)})
    assert one != library.values_sha256({"conv/kernel": ARRAYS["conv/kernel"], "bn/beta": ARRAYS["bn/gamma"]})
    assert one != library.values_sha256(ARRAYS | {"conv/kernel": ARRAYS["conv/kernel"].reshape(1, 1, 4, 3)})


def test_a_taken_name_is_kept_and_replaced_only_where_asked(place):
    first = library.save_arrays(card(), ARRAYS)
    other = ARRAYS | {"bn/gamma": np.zeros(4, np.float32)}
    with pytest.raises(OutputError, match="taken by other weights"):
        library.save_arrays(card(), other)
    assert library.load("mine") == first
    again = library.save_arrays(card(licence="CC0"), ARRAYS)  # the same values: the card is brought up to date
    assert library.load("mine").licence == again.licence == "CC0"
    second = library.save_arrays(card(), other, overwrite=True)
    assert library.load("mine") == second
    assert {p.name for p in (place / "mine").iterdir()} == {library.CARD, *second.files}


def test_what_was_changed_or_lost_is_never_used():
    saved = library.save_arrays(card(), ARRAYS)
    file = saved.path / next(iter(saved.files))
    good = file.read_bytes()
    file.write_bytes(good[:-1] + b"x")
    with pytest.raises(WeightsError, match="was changed"):
        library.arrays(saved)
    file.unlink()
    with pytest.raises(WeightsError, match="is missing"):
        library.arrays(saved)
    file.write_bytes(good)
    with pytest.raises(WeightsError, match="other values than its card"):
        library.arrays(card(files=saved.files))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update(format="other"),
        lambda found: found.update(version=9),
        lambda found: found.update(unheard=1),
        lambda found: found.pop("backbone"),
        lambda found: found.update(labels=[1]),
        lambda found: found.update(name="another"),
        lambda found: found["files"].update({"../other/card.json": "0" * 64}),  # would be packed
    ],
)
def test_a_damaged_card_is_a_sentence_and_can_be_removed(change, caplog):
    file = library.save_arrays(card(), ARRAYS).path / library.CARD
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))
    with pytest.raises(WeightsError, match=r"is not a card of weights: .*Import the weights again\."):
        library.load("mine")
    assert not list(library.cards())
    assert "is not a card" in caplog.text
    library.remove("mine")
    assert library.find("mine") is None


@pytest.mark.parametrize("name", ["", "../up", "a/b", "imagenet", "AUTO", "x.h5", "net.onnx", ".hidden", "a b"])
def test_a_name_cannot_be_taken_for_something_else(name):
    with pytest.raises(WeightsError, match="cannot be the name"):
        library.save_arrays(card(name), ARRAYS)
    with pytest.raises(WeightsError, match="no weights called"):
        library.remove(name)
