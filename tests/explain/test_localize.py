"""Scoring a split: whose boxes count, what is left out, intervals over patients, a cut that never sees the scored."""

import numpy as np
import pandas as pd
import pytest

from cxrfeat._explain import localize
from cxrfeat._explain.detection import NAMES
from cxrfeat._explain.explainer import Explainer
from cxrfeat._explain.explanation import Explanation, Grid
from cxrfeat._explain.targets import Target
from cxrfeat.errors import ExplainError


class Pointer:
    """An explainer whose maps are hot where it is told, for the images of the trained run."""

    method = type("M", (), {"name": "pointer"})()

    def __init__(self, at, labels):
        self.at, self.labels = at, labels

    def explain(self, targets):
        for target in targets:
            yield self.one(target)

    def one(self, target: Target):
        maps = np.full((len(self.labels), 3, 3), -1.0, np.float32)
        if target.image_id in self.at:
            maps[:, *self.at[target.image_id]] = 1.0
        scaled = tuple((n, *(v * 120 / 1024 for v in box)) for n, *box in target.boxes)
        grid = Grid("densenet121", maps, np.array([[40.0, 0, 19.5], [0, 40, 19.5]]))
        known = np.zeros(len(self.labels))
        return Explanation(target.image_id, self.labels, known, known, "pointer", (grid,), (120, 120), boxes=scaled)


def table(*rows):
    return pd.DataFrame(rows, columns=["image_id", "label", "x", "y", "width", "height"])


BOXES = table(
    ("film20.png", "Mass", 0.0, 0, 300, 300),  # upper left cell
    ("film21.png", "Mass", 700.0, 700, 300, 300),  # lower right cell
    ("film22.png", "Nodule", 400.0, 400, 200, 200),
    ("film00.png", "Mass", 0.0, 0, 300, 300),  # in train
    ("film23.png", "Scoliosis", 0.0, 0, 10, 10),  # not in the head
)


@pytest.fixture
def result(trained):
    at = {"film20.png": (0, 0), "film21.png": (0, 0), "film22.png": (1, 1)}
    return localize.localize(trained.run, BOXES, Pointer(at, trained.run.labels))


def row(result, label, kind="map"):
    return next(r for r in result["rows"] if (r["label"], r["kind"]) == (label, kind))


def test_each_label_is_scored_on_its_own_boxes(result):
    assert row(result, "Mass")["pointing"]["value"] == 0.5 and row(result, "Mass")["boxes"] == 2
    assert row(result, "Nodule")["pointing"]["value"] == 1
    assert row(result, "all boxes")["pointing"]["value"] == pytest.approx(2 / 3)


def test_what_is_left_out_is_counted_with_its_reason(result):
    assert result["unknown"] == {"Scoliosis": 1}
    assert result["left_out"] == {"image is not in split 'test' of the run's study": 1}


def test_the_mean_box_is_made_of_others(result):
    """film20's Mass is looked for where film21's and film00's are: one of them in the same corner."""
    assert row(result, "Mass", "mean box")["boxes"] == 2
    assert {r["kind"] for r in result["rows"] if r["label"] == "Nodule"} == {"map", "random map", "centre prior"}


def test_the_grid_s_limit_is_stated(result):
    assert "smaller than one cell" in result["note"] and "341x341" in result["note"]


def test_an_empty_map_counts_as_a_miss(trained):
    result = localize.localize(trained.run, BOXES, Pointer({}, trained.run.labels))
    assert result["empty_maps"] == 3 and row(result, "all boxes")["pointing"]["value"] == 0
    assert np.isnan(row(result, "all boxes")["energy"]["value"])


def test_the_cut_is_never_tuned_on_what_is_scored(trained):
    pointer = Pointer({"film12.png": (0, 0)}, trained.run.labels)
    with pytest.raises(ExplainError, match="cannot be tuned on split 'test'"):
        localize.localize(trained.run, BOXES, pointer, tune_on="test")
    with pytest.raises(ExplainError, match="no box to tune"):
        localize.localize(trained.run, BOXES, pointer, tune_on="val")
    more = pd.concat([BOXES, table(("film12.png", "Mass", 0.0, 0, 480, 480))], ignore_index=True)
    tuned = localize.localize(trained.run, more, pointer, tune_on="val")
    # The lower the cut, the larger the part around the corner, and the box is larger than any.
    assert tuned["cut"] == min(localize.CUTS) and "val" in tuned["cut_how"] and tuned["boxes"] == 3


@pytest.mark.parametrize("cut", [0.0, 1.0, -1.0])
def test_a_cut_is_a_fraction(trained, cut):
    with pytest.raises(ExplainError, match="between 0 and 1"):
        localize.localize(trained.run, BOXES, Pointer({}, trained.run.labels), cut=cut)


def test_without_a_box_there_is_nothing_to_score(trained):
    with pytest.raises(ExplainError, match="no box can be scored"):
        localize.localize(trained.run, BOXES[BOXES["label"] == "Scoliosis"], Pointer({}, trained.run.labels))


def test_real_maps_are_scored(trained):
    found = localize.localize(trained.run, BOXES, Explainer(trained.run, engine="openvino"))
    assert found["boxes"] == 3 and found["method"] == "cam" and found["random"]
    for name in NAMES[:2]:
        assert 0 <= row(found, "Mass")[name]["value"] <= 1
