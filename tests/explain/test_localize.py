"""Scoring a split: whose boxes count, what is left out, intervals over patients, a cut that never sees the scored."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_1samp

from cxrfeat._explain import localize
from cxrfeat._explain.detection import NAMES
from cxrfeat._explain.explanation import Explanation, Grid
from cxrfeat._explain.localize import score_boxes
from cxrfeat._explain.targets import Target, on_image
from cxrfeat.errors import ExplainError


class Pointer:
    """An explainer whose maps are hot at a given place, for the images of the trained run."""

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
        scaled = on_image(target.boxes, (120, 120))
        grid = Grid("densenet121", maps, np.array([[40.0, 0, 19.5], [0, 40, 19.5]]))
        known = np.zeros(len(self.labels))
        return Explanation(target.image_id, self.labels, known, known, "pointer", (grid,), (120, 120), boxes=scaled)


def table(*rows, frame=(1024.0, 1024.0)):
    """A box table as `boxes_of` gives it."""
    boxes = pd.DataFrame(rows, columns=["image_id", "label", "x", "y", "width", "height"])
    boxes["patient_id"] = "p" + boxes["image_id"].str[4:6].astype(int).astype(str)
    return boxes.assign(frame_width=frame[0], frame_height=frame[1])


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
    return score_boxes(trained.run, BOXES, Pointer(at, trained.run.labels))


def row(result, label, kind="map"):
    return next(r for r in result.rows if (r["label"], r["kind"]) == (label, kind))


def test_each_label_is_scored_on_its_own_boxes(result):
    assert row(result, "Mass")["pointing"]["value"] == 0.5 and row(result, "Mass")["boxes"] == 2
    assert row(result, "Nodule")["pointing"]["value"] == 1
    assert row(result, "all boxes")["pointing"]["value"] == pytest.approx(2 / 3)


def test_what_is_left_out_is_counted_with_its_reason(result):
    assert result.unknown == {"Scoliosis": 1}
    assert result.left_out == {"image is not in split 'test' of the run's study": 1}


def test_every_kind_of_map_is_scored_on_the_same_boxes(result):
    """No other patient has a Nodule: its mean box is that of all labels, where it was left out of the sum before."""
    assert {(r["kind"], r["boxes"]) for r in result.rows if r["label"] == "all boxes"} == {
        (kind, 3) for kind in ("map", "random map", "centre prior", "mean box")
    }
    assert result.borrowed == 1 and row(result, "Nodule", "mean box")["boxes"] == 1
    # film20's Mass is looked for where film21's and film00's are: one of them is in the same corner.
    assert row(result, "Mass", "mean box")["pointing"]["value"] > 0


def test_false_boxes_are_counted_once_a_map(trained):
    """An image with three boxes of its label would count three times as much as one with a single box."""
    three = [("film20.png", "Mass", 700.0, y, 100, 100) for y in (500.0, 700, 900)]
    boxes = table(*three, ("film21.png", "Mass", 0.0, 0, 300, 300))
    at = {"film20.png": (0, 0), "film21.png": (0, 0)}  # one part without a box in film20, none in film21
    found = score_boxes(trained.run, boxes, Pointer(at, trained.run.labels))
    assert row(found, "Mass")["false boxes"]["value"] == 0.5 and row(found, "Mass")["boxes"] == 4


def test_a_label_that_the_head_has_not_learnt_is_left_out_of_every_kind(trained):
    class Unlearnt(Pointer):
        def one(self, target):
            found = super().one(target)
            found.grids[0].maps[self.labels.index("Nodule")] = np.nan
            return found

    found = score_boxes(trained.run, BOXES, Unlearnt({}, trained.run.labels))
    assert not [r for r in found.rows if r["label"] == "Nodule"]
    assert found.left_out["the head has not learnt the label"] == 1


def test_boxes_are_scored_in_their_own_frame(trained, result):
    """The same boxes, drawn on a frame of half the size."""
    half = BOXES.assign(**{c: BOXES[c] / 2 for c in ("x", "y", "width", "height", "frame_width", "frame_height")})
    at = {"film20.png": (0, 0), "film21.png": (0, 0), "film22.png": (1, 1)}
    found = score_boxes(trained.run, half, Pointer(at, trained.run.labels))
    pd.testing.assert_frame_equal(found.to_frame(), result.to_frame())
    assert "of a 512x512 original" in found.note


def test_the_grid_s_limit_is_stated(result):
    assert "smaller than one cell" in result.note and "341x341" in result.note


def test_an_empty_map_counts_as_a_miss(trained):
    result = score_boxes(trained.run, BOXES, Pointer({}, trained.run.labels))
    assert result.empty_maps == 3 and row(result, "all boxes")["pointing"]["value"] == 0
    assert row(result, "all boxes")["energy"]["value"] == 0


def test_the_cut_is_never_tuned_on_what_is_scored(trained):
    with pytest.raises(ExplainError, match="cannot be tuned on split 'test'"):
        localize.localize(trained.run, tune_on="test")
    pointer = Pointer({"film12.png": (0, 0)}, trained.run.labels)
    with pytest.raises(ExplainError, match="no box to tune"):
        score_boxes(trained.run, BOXES, pointer, tune_on="val")
    more = pd.concat([BOXES, table(("film12.png", "Mass", 0.0, 0, 480, 480))], ignore_index=True)
    tuned = score_boxes(trained.run, more, pointer, tune_on="val")
    # The lower the cut, the larger the part around the corner, and the box is larger than any.
    assert tuned.cut == min(localize.CUTS) and "val" in tuned.cut_how and tuned.boxes == 3


@pytest.mark.parametrize("cut", [0.0, 1.0, -1.0])
def test_a_cut_is_a_fraction(trained, cut):
    with pytest.raises(ExplainError, match="between 0 and 1"):
        localize.localize(trained.run, cut=cut)


def test_without_a_box_there_is_nothing_to_score(trained):
    with pytest.raises(ExplainError, match="no box can be scored"):
        score_boxes(trained.run, BOXES[BOXES["label"] == "Scoliosis"], Pointer({}, trained.run.labels))


def test_real_maps_are_scored_printed_and_drawn(trained, tmp_path):
    BOXES.to_csv(tmp_path / "boxes.csv", index=False)
    found = localize.localize(trained.run.path, tmp_path / "boxes.csv", engine="openvino")
    assert found.boxes == 3 and found.method == "cam" and found.random
    for name in NAMES[:2]:
        assert 0 <= row(found, "Mass")[name]["value"] <= 1
    assert "3 boxes in 3 images of 3 patients" in repr(found) and "centre prior" in found._repr_html_()
    table, figure = found.to_frame(), found.plot()
    assert len(table) == len(found.rows) and "pointing low" in table and figure.axes
    written = found.save(tmp_path / "out")
    assert written[0].name == "localize.json" and all(path.stat().st_size for path in written)


def test_intervals_count_patients_and_not_boxes():
    """Ten boxes of two patients, one always found and one never: nearly nothing is known."""
    mean, low, high = localize.interval(np.repeat([1.0, 0.0], 5), np.repeat(["a", "b"], 5))
    assert mean == 0.5 and low < 0.05 and high > 0.95
    # Independent oracle: Wilson's interval of scipy, where every patient has one box.
    found = np.random.default_rng(0).integers(0, 2, 400).astype(float)
    wilson = binomtest(int(found.sum()), 400).proportion_ci(method="wilson")
    assert localize.interval(found, np.arange(400))[1:] == pytest.approx((wilson.low, wilson.high), abs=0.001)
    # A measure that is no share: Student's interval of the mean.
    values = np.random.default_rng(1).gamma(2.0, size=12)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert localize.interval(values, np.arange(12))[1:] == pytest.approx((expected.low, expected.high))


def test_intervals_of_few_patients_cover():
    """Boxes of one patient are alike; a percentile bootstrap covers 0.55 and 0.72 of these."""
    rng = np.random.default_rng(0)
    for patients in (5, 8):
        covered = 0
        for _ in range(300):
            owners = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
            hit = rng.random(len(owners)) < rng.beta(0.2, 1.8, patients)[owners]
            _, low, high = localize.interval(hit.astype(float), owners)
            covered += low <= 0.1 <= high
        assert covered / 300 >= 0.93


def test_one_patient_has_no_interval_and_unknown_values_are_left_out():
    assert localize.interval(np.array([0.4, np.nan]), np.array(["a", "a"])) == pytest.approx(
        (0.4, np.nan, np.nan), nan_ok=True
    )
    assert localize.interval(np.array([1.0, np.nan, 1]), np.array(["a", "b", "b"]))[1] < 0.3
