"""From a run to explanations: one path with extraction, failures that stop nobody, smoothing that warps back."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from cxrfeat._explain import targets
from cxrfeat._explain.explainer import Explainer, Failure, open_method, what
from cxrfeat._explain.explanation import Explanation, Grid
from cxrfeat._heads import load_head
from cxrfeat._heads.keras_head import KerasHead, build
from cxrfeat._report import panels
from cxrfeat.errors import ExplainError, RecipeError, WeightsError

pytestmark = pytest.mark.usefixtures("graphs")


def table(*rows):
    """A box table as `boxes_of` gives it, drawn on 1024 x 1024."""
    boxes = pd.DataFrame(rows, columns=["image_id", "label", "x", "y", "width", "height"])
    return boxes.assign(patient_id="", frame_width=1024.0, frame_height=1024.0)


@pytest.fixture(scope="module")
def explainer(trained):
    return Explainer(trained.run, engine="openvino")


def test_maps_come_from_the_cached_embedding_s_own_image(trained, explainer):
    chosen = targets.of_study(trained.run, "test")
    found = list(explainer.explain(chosen))
    predicted = trained.run.predictions("test")
    assert [e.image_id for e in found] == list(predicted.index)
    for e in found:
        np.testing.assert_allclose(e.probabilities, predicted.loc[e.image_id], atol=1e-4)
        np.testing.assert_allclose(e.maps.mean(axis=(1, 2)), e.logits, atol=1e-4)
        assert e.truth and e.image_shape == (120, 120) and "RANDOM" in e.about and e.random


def test_a_probability_that_is_not_the_cached_one_is_refused_with_both(trained, explainer):
    first, second = targets.of_study(trained.run, "test")[:2]
    wrong = replace(first, predicted={**first.predicted, "Mass": 0.1234})
    bad, good = explainer.explain([wrong, second])
    assert isinstance(good, Explanation)
    p = trained.run.predictions("test").loc[first.image_id, "Mass"]
    assert isinstance(bad, Failure) and "0.1234" in str(bad) and f"{p:.4f}" in str(bad)


def test_another_s_graph_is_refused(trained, explainer):
    head = load_head(trained.run)
    method = open_method(trained.run, head, engine="openvino")
    method.intercept[0] += 1
    other = Explainer.__new__(Explainer)
    other.__dict__.update(explainer.__dict__, method=method)
    with pytest.raises(ExplainError, match="not the same head"):
        list(other.explain(targets.of_study(trained.run, "test")[:1]))


def test_unreadable_images_fail_alone_and_in_their_place(trained, explainer, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    good = [str(path) for path in trained.study.paths()[:2]]
    found = list(explainer.explain(targets.named(trained.run, [good[0], str(broken), "nowhere.png", good[1]])))
    assert [isinstance(f, Failure) for f in found] == [False, True, True, False]
    assert "decoded" in str(found[1]) and "read" in str(found[2])


def test_an_image_in_no_study_is_explained_without_truth(trained, explainer, tmp_path):
    film = tmp_path / "visitor.png"
    cv2.imwrite(str(film), np.random.default_rng(0).integers(0, 256, (90, 140), dtype=np.uint8))
    (found,) = explainer.explain(targets.named(trained.run, [str(film)]))
    assert found.image_id == "visitor.png" and not found.truth and found.image_shape == (90, 140)
    assert found.on_image("Mass").shape == (90, 140)


@pytest.mark.parametrize("shape", [(31, 200), (200, 31), (100, 401), (401, 100), (20, 20)])
def test_an_image_that_the_square_cannot_stand_for_fails_alone(trained, explainer, tmp_path, shape):
    rng = np.random.default_rng(0)
    for name, size in (("odd.png", shape), ("good.png", (100, 400))):
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, size, dtype=np.uint8))
    bad, good = explainer.explain(targets.named(trained.run, [str(tmp_path / "odd.png"), str(tmp_path / "good.png")]))
    assert isinstance(bad, Failure) and f"{shape[1]}x{shape[0]} pixels" in str(bad) and "at least 32" in str(bad)
    assert isinstance(good, Explanation) and good.image_shape == (100, 400)


def test_boxes_of_a_square_original_are_not_laid_on_an_oblong_copy(trained, explainer, tmp_path):
    """Boxes in pixels of 1024 x 1024 say nothing about an image that was cropped or squashed since."""
    film = tmp_path / "film20.png"
    cv2.imwrite(str(film), np.random.default_rng(0).integers(0, 256, (100, 140), dtype=np.uint8))
    boxes = table(("film20.png", "Mass", 1.0, 1.0, 9.0, 9.0))
    (bad,) = explainer.explain(targets.named(trained.run, [str(film)], boxes))
    assert isinstance(bad, Failure) and "140x100" in str(bad) and "1024x1024" in str(bad)


def test_smoothed_maps_stay_in_place(trained):
    """Averaging over warped renderings must not move a map; only warping each one back keeps it where it was."""
    chosen = targets.of_study(trained.run, "test")[:3]
    plain = list(Explainer(trained.run, engine="openvino").explain(chosen))
    smooth = list(Explainer(trained.run, engine="openvino", smooth=4).explain(chosen))
    for a, b in zip(plain, smooth, strict=True):
        assert b.smoothed == 4 and np.isfinite(b.maps).all()
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
        assert np.corrcoef(a.maps.ravel(), b.maps.ravel())[0, 1] > 0.5


def test_a_head_without_gradient_is_told_which_have_one(trained):
    class Forest:
        linear = network = None

    with pytest.raises(ExplainError, match="logistic"):
        open_method(trained.run, Forest())


@pytest.fixture
def wide_graph(keras, monkeypatch, trained):
    """In place of the run's graph one of a single layer, as wide: what holds for every network holds for it."""
    from cxrfeat._backbones import graph

    image = keras.Input((trained.recipe.size, trained.recipe.size, 1), dtype="uint8")
    features = keras.layers.Conv2D(load_head(trained.run).dim, 32, strides=32, activation="relu")(
        keras.layers.Rescaling(1 / 255)(image)
    )
    made = keras.Model(image, [keras.layers.GlobalAveragePooling2D()(features), features])
    monkeypatch.setattr(graph, "keras_graph", lambda *_: made)


@pytest.mark.usefixtures("wide_graph")
@pytest.mark.parametrize("method", ["cam", "gradcam", "hirescam", "paper"])
def test_maps_of_a_softmax_head_do_not_depend_on_what_no_probability_depends_on(trained, method):
    """One vector added to every label's weights changes no probability, and moved the highest cell of most maps."""
    rng, labels, x = np.random.default_rng(0), trained.run.labels, trained.pixels[:4]
    dim = load_head(trained.run).dim
    kernel, bias, vector = rng.normal(size=(dim, 3)), rng.normal(size=3), rng.normal(size=(dim, 1))
    found = []
    for weights in ([kernel, bias], [kernel + vector, bias + 7]):
        head = KerasHead(labels, build(dim, 3, (), 0.0, "softmax", 0))
        head.model.get_layer("logits").set_weights(weights)
        evidence = open_method(trained.run, head, method)([x])
        found.append((head.from_logits(evidence.logits), evidence.parts[0]))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-3 * np.abs(found[0][1]).max())


def test_panels_and_files_say_what_a_map_is_evidence_for(trained, explainer, tmp_path):
    (found,) = explainer.explain(targets.named(trained.run, ["film20.png"]))
    assert found.of == "logit"
    softmax = KerasHead(trained.run.labels, build(4, 3, (), 0.0, "softmax", 0))
    assert (what(softmax, "cam"), what(softmax, "paper")) == ("logit less the mean over labels", "probability")
    assert what(load_head(trained.run), "paper") == "probability"
    one = replace(found, of=what(softmax, "cam"))
    assert Explanation.load(one.save(tmp_path / "a.npz")).of == one.of
    assert "maps of the logit less the mean over labels by cam" in panels._footer([one], "image")


def test_methods_and_weights_are_checked(trained, tmp_path):
    head = load_head(trained.run)
    with pytest.raises(ExplainError, match="scorecam"):
        open_method(trained.run, head, "scorecam")
    with pytest.raises(WeightsError, match="1 backbones"):
        open_method(trained.run, head, weights=["a.h5", "b.h5"])
    with pytest.raises(RecipeError, match="sha256"):
        open_method(trained.run, head, weights=["random:1"])


def test_boxes_are_scaled_and_bad_ones_are_told(trained, explainer):
    boxes = table(("film20.png", "Mass", 256.0, 512.0, 128.0, 64.0), ("film21.png", "Mass", 1000.0, 0.0, 200.0, 10.0))
    good, bad = explainer.explain(targets.named(trained.run, ["film20.png", "film21.png"], boxes))
    assert good.boxes == (("Mass", 30.0, 60.0, 15.0, 7.5),)
    assert isinstance(bad, Failure) and "outside" in str(bad)


def test_the_mean_over_backbones_is_taken_where_cells_lie():
    ramp = np.tile(np.arange(4.0), (1, 4, 1)).astype(np.float32)
    affine = np.array([[32.0, 0, 14], [0, 32, 14]])
    shifted = affine - np.array([[0, 0, 14], [0, 0, 14]])
    both = Explanation(
        "x", ("Mass",), np.zeros(1), np.zeros(1), "cam", (Grid("a", ramp, affine), Grid("b", ramp, shifted)), (128, 128)
    )
    # At the centre of a's cell k, b's ramp stands at k + 14/32.
    np.testing.assert_allclose(both.maps[0, 0], [0 + 7 / 32, 1 + 7 / 32, 2 + 7 / 32, 3])


def test_outcomes_are_what_the_thresholds_say(trained):
    run = trained.run
    p, y = run.predictions("test"), trained.study.table.set_index("image_id")
    for label in run.labels:
        cut = run.thresholds[label]
        cut = 0.5 if np.isnan(cut) else cut
        for outcome, truth, above in (("tp", 1, True), ("fp", 0, True), ("fn", 1, False)):
            hits = {i for i in p.index if y.loc[i, label] == truth and (p.loc[i, label] >= cut) == above}
            if not hits:
                with pytest.raises(ExplainError, match=label):
                    targets.outcomes(run, outcome, [label])
                continue
            found = targets.outcomes(run, outcome, [label], limit=100)
            assert {t.image_id for t in found} == hits
            clearest = [p.loc[t.image_id, label] for t in found]
            assert clearest == sorted(clearest, reverse=above)
            assert all(label in t.note and t.focus == (label,) for t in found)


def test_a_run_of_mean_passes_is_not_compared_with_single_ones(trained):
    averaged = replace(trained.run, options=replace(trained.run.options, tta=True))
    assert all(not t.predicted for t in targets.of_study(averaged, "test"))
