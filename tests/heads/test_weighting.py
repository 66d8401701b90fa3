"""Class weights against hand-computed values and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from cxrfeat._heads.registry import WEIGHTINGS
from cxrfeat._heads.weighting import EFFECTIVE_BETA, weigh
from cxrfeat.errors import HeadError

Y = np.array([[1, 0], [0, np.nan], [0, 1], [0, 1], [np.nan, 1]], dtype=float)


def test_paper_weights_are_the_share_of_the_other_class_among_known_rows():
    weights = weigh(Y, ("a", "b"), "paper")
    assert weights.positives.tolist() == [1, 3]
    assert weights.negatives.tolist() == [3, 1]
    assert weights.positive.tolist() == [0.75, 0.25]
    assert weights.negative.tolist() == [0.25, 0.75]


def test_the_papers_formula_to_the_letter_weighs_the_frequent_class_more():
    weights = weigh(Y, ("a", "b"), "paper-literal")
    assert weights.positive.tolist() == [0.25, 0.75] and weights.negative.tolist() == [0.75, 0.25]


def test_balanced_is_scikit_learns():
    weights = weigh(Y, ("a", "b"), "balanced")
    for k in range(2):
        known = Y[~np.isnan(Y[:, k]), k]
        negative, positive = compute_class_weight("balanced", classes=np.array([0.0, 1.0]), y=known)
        assert (weights.negative[k], weights.positive[k]) == pytest.approx((negative, positive))


def test_effective_number_follows_its_formula_and_sums_to_two():
    y = np.repeat([[1.0], [0.0]], [200, 9000], axis=0)
    weights = weigh(y, ("a",), "effective-number")
    raw = np.array([(1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA**n) for n in (200, 9000)])
    expected = 2 * raw / raw.sum()
    assert (weights.positive[0], weights.negative[0]) == pytest.approx(tuple(expected), rel=1e-9)


@pytest.mark.parametrize("scheme", WEIGHTINGS)
def test_unknown_entries_weigh_nothing_and_one_class_labels_are_told_apart(scheme):
    y = np.array([[1, 0], [0, 0], [np.nan, 0]])
    weights = weigh(y, ("a", "none"), scheme)
    entries = weights.of(y)
    assert entries[2, 0] == 0
    assert (entries[:2, 0] > 0).all()
    assert np.isfinite(entries).all()
    assert weights.fittable.tolist() == [True, False]


def test_an_unknown_scheme_names_the_known_ones():
    with pytest.raises(HeadError, match="balanced"):
        weigh(Y, ("a", "b"), "heavy")
