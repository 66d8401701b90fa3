"""The map file: everything to put a map on the original's pixels, and nothing that has to be unpickled."""

from pathlib import Path

import numpy as np
import pytest

from cxrfeat._explain import explanation as explanation_module
from cxrfeat._explain.explanation import Explanation, Grid
from cxrfeat.errors import ExplainError, NotFoundError


@pytest.fixture
def explanation():
    rng = np.random.default_rng(0)
    grid = Grid("densenet121", rng.normal(size=(3, 2, 4)).astype(np.float32), np.array([[50.0, 0, 20], [0, 40, 10]]))
    return Explanation(
        "film.png", ("Effusion", "Mass", "Hernia"), np.array([1.0, -2, np.nan]), np.array([0.7, 0.1, np.nan]), "cam",
        (grid,), (90, 210), "a head", True, 2, boxes=(("Mass", 1.0, 2.0, 3.0, 4.0),), note="chosen", focus=("Mass",),
    )  # fmt: skip


def test_a_saved_explanation_is_read_back(explanation, tmp_path):
    found = Explanation.load(explanation.save(tmp_path / "film.npz"))
    for name in (
        "image_id",
        "labels",
        "method",
        "image_shape",
        "about",
        "random",
        "smoothed",
        "boxes",
        "note",
        "focus",
        "of",
    ):
        assert getattr(found, name) == getattr(explanation, name)
    np.testing.assert_array_equal(found.maps, explanation.maps)
    np.testing.assert_array_equal(found.probabilities, explanation.probabilities)


def test_numpy_alone_can_lay_the_map_on_the_original(explanation, tmp_path):
    """As the manual says: pixel = grid_to_image @ (x, y, 1)."""
    with np.load(explanation.save(tmp_path / "film.npz"), allow_pickle=False) as file:
        label = list(file["labels"]).index("Mass")
        x, y = (file["grid_to_image"] @ [2, 1, 1]).astype(int)
        assert (x, y) == (120, 50)
        np.testing.assert_allclose(explanation.on_image("Mass")[y, x], file["maps"][label, 1, 2], rtol=1e-6)
        assert tuple(file["image_shape"]) == explanation.on_image("Mass").shape


def test_the_foremost_labels_are_those_chosen_for_then_the_most_probable(explanation):
    assert explanation.foremost(1) == ("Mass",)
    assert explanation.foremost(4) == ("Mass", "Effusion")  # Hernia has no probability


def test_damaged_and_foreign_files_are_told(explanation, tmp_path):
    path = explanation.save(tmp_path / "film.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ExplainError, match="not a readable"):
        Explanation.load(path)
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    with pytest.raises(ExplainError, match="not a readable"):
        Explanation.load(tmp_path / "other.npz")
    with pytest.raises(NotFoundError):
        Explanation.load(tmp_path / "missing.npz")


def test_an_unknown_label_is_told(explanation):
    with pytest.raises(ExplainError, match="Scoliosis"):
        explanation.on_image("Scoliosis")


FROZEN = Path(__file__).parents[1] / "data"


def test_files_of_version_1_are_read_for_ever():
    found = Explanation.load(FROZEN / "maps-v1.npz")
    assert (found.image_id, found.labels, found.method) == ("film.png", ("Effusion", "Mass", "Hernia"), "cam")
    assert [grid.backbone for grid in found.grids] == ["densenet121", "resnet50"] and found.of == "logit"
    assert found.boxes == (("Mass", 1.0, 2.0, 3.0, 4.0),) and found.focus == ("Mass",) and found.random
    rng = np.random.default_rng(0)  # as the file was made
    np.testing.assert_array_equal(found.grids[0].maps, rng.normal(size=(3, 2, 4)).astype(np.float32))
    np.testing.assert_array_equal(found.logits, [1.0, -2, np.nan])


def test_a_newer_version_is_named(explanation, tmp_path, monkeypatch):
    monkeypatch.setattr(explanation_module, "FORMAT_VERSION", 99)
    path = explanation.save(tmp_path / "film.npz")
    monkeypatch.undo()
    with pytest.raises(ExplainError, match=r"version 99 .* upgrade"):
        Explanation.load(path)


def test_damage_is_a_sentence_or_changes_nothing(explanation, tmp_path):
    """Every byte of the file turned over, one at a time: what is read is what was written, or it is refused."""
    path = explanation.save(tmp_path / "film.npz")
    whole, refused = path.read_bytes(), 0
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        try:
            found = Explanation.load(path)
        except ExplainError:
            refused += 1
            continue
        np.testing.assert_array_equal(found.grids[0].maps, explanation.grids[0].maps)
        assert (found.image_id, found.note) == (explanation.image_id, explanation.note)
    assert refused > len(whole) / 7 / 2
