"""The map file: everything to put a map on the original's pixels, and nothing that has to be unpickled."""

import numpy as np
import pytest

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
    with pytest.raises(ExplainError, match="no readable"):
        Explanation.load(path)
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    with pytest.raises(ExplainError, match="no readable"):
        Explanation.load(tmp_path / "other.npz")
    with pytest.raises(NotFoundError):
        Explanation.load(tmp_path / "missing.npz")


def test_an_unknown_label_is_told(explanation):
    with pytest.raises(ExplainError, match="Scoliosis"):
        explanation.on_image("Scoliosis")
