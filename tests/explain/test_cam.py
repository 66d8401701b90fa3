"""The closed form: complete, and in the right place."""

import numpy as np
import pytest

from cxrfeat._explain.cam import ClosedForm, class_maps
from cxrfeat.errors import ExplainError


def oracle(features, coef, intercept):
    """Zhou et al.'s sum, one cell at a time."""
    n, gh, gw, _ = features.shape
    maps = np.zeros((n, len(coef), gh, gw))
    for i, label, y, x in np.ndindex(maps.shape):
        maps[i, label, y, x] = sum(coef[label] * features[i, y, x]) + intercept[label]
    return maps


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    return rng.random((2, 3, 4, 5)).astype(np.float32), rng.normal(size=(6, 5)), rng.normal(size=6)


def test_a_map_is_the_weighted_sum_of_the_channels(case):
    np.testing.assert_allclose(class_maps(*case), oracle(*case), rtol=1e-12)


def test_the_maps_mean_is_the_logit(case):
    features, coef, intercept = case
    logits = features.mean(axis=(1, 2), dtype=float) @ coef.T + intercept
    np.testing.assert_allclose(class_maps(*case).mean(axis=(2, 3)), logits, rtol=1e-12)


def test_an_unlearnt_label_leaves_the_others_alone(case):
    features, coef, intercept = case
    coef[2] = np.nan
    maps = class_maps(features, coef, intercept)
    assert np.isnan(maps[:, 2]).all()
    assert np.isfinite(np.delete(maps, 2, axis=1)).all()


def test_two_backbones_share_the_logit_between_their_maps(block_engine):
    rng = np.random.default_rng(3)
    coef, intercept = rng.normal(size=(3, 4)), rng.normal(size=3)
    method = ClosedForm([block_engine, block_engine], coef, intercept)
    images = rng.integers(0, 256, (5, 96, 96), dtype=np.uint8)
    found = method([images, images[:, ::-1].copy()])
    assert found.embedding.shape == (5, 4)
    np.testing.assert_allclose(found.logits, found.embedding.astype(float) @ coef.T + intercept, atol=1e-6)
    np.testing.assert_allclose(sum(p.mean(axis=(2, 3)) for p in found.parts), found.logits)


def test_the_order_of_images_survives_the_engines_threads(block_engine):
    images = np.stack([np.full((64, 64), 10 * i, np.uint8) for i in range(11)])
    found = ClosedForm([block_engine], np.array([[1.0, 0.0]]), np.zeros(1))([images])
    np.testing.assert_allclose(found.logits[:, 0], np.arange(11) * 10 / 255, atol=1e-6)


def test_a_head_of_another_width_is_refused(block_engine):
    with pytest.raises(ExplainError, match="takes 3 features"):
        ClosedForm([block_engine], np.ones((1, 3)), np.zeros(1))([np.zeros((1, 64, 64), np.uint8)])
