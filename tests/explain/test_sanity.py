"""Sanity checks: similarity against independent oracles, and a cascade that forgets from the top down."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from cxrfeat._explain import sanity
from cxrfeat._explain.gradcam import Gradients, cascade, dense, stages_of
from cxrfeat.errors import ExplainError


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 7)), rng.integers(0, 5, (7, 7)).astype(float)  # with ties
    assert sanity.rank_correlation(a, b) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    assert np.isnan(sanity.rank_correlation(a, np.ones((7, 7))))


def test_similarity_is_one_for_equals_and_blind_to_scale():
    a = np.random.default_rng(0).normal(size=(7, 7))
    assert sanity.similarity(a, a) == pytest.approx(1)
    assert sanity.similarity(3 * a, a) == pytest.approx(1)
    assert sanity.similarity(a, -a) < 0
    # Two maps without a positive cell are nothing alike and nothing different.
    assert np.isnan(sanity.similarity(-np.abs(a), -1 - np.abs(a)))


@pytest.fixture(scope="module")
def checked(trained):
    steps = []
    images = trained.study.split("test").ids[:3]
    found = sanity.sanity_check(
        trained.run.path, list(images), progress=lambda done, total, note: steps.append((done, total))
    )
    return found, steps


def test_every_stage_is_randomised_once_from_the_head_down(checked):
    found, steps = checked
    assert found.steps == ("trained", "head", "stride 32", "stride 16", "stride 8", "stride 4", "stride 2")
    assert steps == [(k, 7) for k in range(1, 8)]


def test_maps_of_a_network_that_forgot_are_others(checked):
    found, _ = checked
    assert found.rank.shape == (7, 9)  # 3 images, 3 labels
    np.testing.assert_allclose(found.rank[0], 1)
    assert np.abs(found.rank[1:].mean(axis=1)).max() < 0.6
    assert "depend" in found.verdict


def test_the_cascade_touches_a_stage_only_when_its_turn_comes(keras):
    image = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Conv2D(2, 2, strides=2, name="b")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Conv2D(3, 2, strides=2, name="z")(x)
    features = keras.layers.BatchNormalization(name="a")(keras.layers.Conv2D(4, 1, name="y")(x))
    graph = keras.Model(image, [keras.layers.GlobalAveragePooling2D()(features), features])
    method = Gradients("gradcam", [graph], dense(np.arange(8.0).reshape(2, 4), np.zeros(2)))
    stages = stages_of(method)
    assert {name: [layer.name for layer in layers] for name, layers in stages.items()} == {
        "head": ["linear_head"],
        "stride 4": ["z", "y", "a"],
        "stride 2": ["b"],
    }
    kernels = {name: layers[0].get_weights()[0] for name, layers in stages.items()}
    done = []
    for name in cascade(method):
        done.append(name)
        for stage, kernel in kernels.items():
            assert np.array_equal(stages[stage][0].get_weights()[0], kernel) == (stage not in done)
    assert done == ["head", "stride 4", "stride 2"]
    # A shuffled head keeps each label's weights, in another order.
    shuffled = stages["head"][0].get_weights()[0]
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(kernels["head"], axis=0))


def test_maps_that_never_change_are_called_out():
    same = np.ones((7, 4))
    found = sanity.Sanity(("trained", *"abcdef"), same, same, np.zeros((7, 3, 3)), ("Mass", "x"), 1, "cam", None)
    assert "hardly depend" in found.verdict


def test_maps_turned_upside_down_have_not_changed_their_pattern():
    """Half of them inverted average to a correlation of 0, and every one still shows the same place."""
    flipped = np.concatenate([np.ones((1, 4)), np.tile([1.0, -1, 1, -1], (6, 1))])
    steps = ("trained", *"abcdef")
    found = sanity.Sanity(steps, flipped, flipped, np.zeros((7, 3, 3)), ("Mass", "x"), 1, "gradcam", None)
    assert "hardly depend" in found.verdict and "1.00 with all random" in found.verdict


def test_maps_of_several_backbones_are_compared_each_on_its_own_grid():
    """Nothing is averaged cell by cell: the cells of two backbones need not lie in one place, nor be as many."""
    parts = (np.arange(2 * 3 * 4.0).reshape(2, 3, 2, 2), np.arange(2 * 3 * 9.0).reshape(2, 3, 3, 3))
    found = sanity._maps(lambda inputs: type("E", (), {"parts": parts})(), [], [0, 2])
    assert [m.shape for m in found] == [(2, 2)] * 4 + [(3, 3)] * 4
    np.testing.assert_array_equal(found[1], parts[0][0, 2])
    np.testing.assert_array_equal(found[6], parts[1][1, 0])


def test_without_a_readable_image_there_is_a_sentence(trained, tmp_path):
    with pytest.raises(ExplainError, match="none of the images"):
        sanity.sanity_check(trained.run, tmp_path / "gone.png")


def test_a_check_prints_its_verdict_and_draws_itself(checked, tmp_path):
    found, _ = checked
    assert found.verdict in repr(found) and "stride 2" in found._repr_html_()
    figure, *_, data = found.save(tmp_path)
    assert figure.stat().st_size > 10_000 and data.name == "gradcam-sanity.csv"
