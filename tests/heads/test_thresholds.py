"""Thresholds against a search over every cut."""

from __future__ import annotations

import numpy as np
import pytest

from cxrfeat._heads.decision import FEWEST, Rule, choose
from cxrfeat.errors import HeadError


def scores(y, called):
    true = (called & (y == 1)).sum()
    return {
        "youden": true / (y == 1).sum() - (called & (y == 0)).sum() / (y == 0).sum(),
        "f1": 2 * true / (called.sum() + (y == 1).sum()),
        "sensitivity": true / (y == 1).sum(),
        "precision": true / called.sum(),
    }


@pytest.fixture(params=range(5))
def data(request):
    rng = np.random.default_rng(request.param)
    y = (rng.random(80) < 0.3).astype(float)
    p = np.round(np.clip(0.3 * y + rng.random(80) * 0.7, 0, 1), 2)  # rounded: ties
    return y, p


@pytest.mark.parametrize("method", ["youden", "f1"])
def test_no_cut_is_better(data, method):
    y, p = data
    threshold = choose(y[:, None], p[:, None], Rule(method))[0]
    best = max(scores(y, p >= cut)[method] for cut in np.unique(p))
    assert scores(y, p >= threshold)[method] == pytest.approx(best)


def test_fixed_sensitivity_is_reached_by_the_highest_cut(data):
    y, p = data
    threshold = choose(y[:, None], p[:, None], Rule("sensitivity", 0.9))[0]
    enough = [cut for cut in np.unique(p) if scores(y, p >= cut)["sensitivity"] >= 0.9]
    assert ((p >= threshold) == (p >= max(enough))).all()


def test_fixed_precision_is_reached_by_the_lowest_cut(data):
    y, p = data
    threshold = choose(y[:, None], p[:, None], Rule("precision", 0.5))[0]
    enough = [cut for cut in np.unique(p) if scores(y, p >= cut)["precision"] >= 0.5]
    assert ((p >= threshold) == (p >= min(enough))).all()


def test_unreachable_precision_and_one_class_are_nan():
    y, p = np.array([[0.0, 1], [1, 1]]), np.array([[0.9, 0.1], [0.1, 0.2]])
    assert choose(y, p, Rule("precision", 0.9), 1)[0] == "no threshold reaches precision=0.9"
    assert choose(y, p, Rule("youden"), 1)[1] == "0 negatives in validation, 1 are needed"


@pytest.mark.parametrize("method", ["youden", "f1", "sensitivity", "precision"])
def test_a_threshold_is_not_chosen_from_a_few_images(method):
    """Fifteen validation images with two positives gave thresholds such as 1.29e-09."""
    rng = np.random.default_rng(0)
    y, p = (np.arange(60)[:, None] < FEWEST - 1).astype(float), rng.random((60, 1))
    (found,) = choose(y, p, Rule(method, 0.1))
    assert found == f"{FEWEST - 1} positives in validation, {FEWEST} are needed"
    (found,) = choose(1 - y, p, Rule(method, 0.1))
    assert found == f"{FEWEST - 1} negatives in validation, {FEWEST} are needed"
    assert choose(y[:0], p[:0], Rule(method, 0.1)) == [f"0 positives in validation, {FEWEST} are needed"]
    assert choose(y[:0], p[:0], Rule("fixed", 0.3)) == [0.3]


def test_a_threshold_lies_between_probabilities_so_that_rounding_never_decides(data):
    y, p = data
    threshold = choose(y[:, None], p[:, None], Rule("f1"))[0]
    assert np.abs(p - threshold).min() > 1e-3


def test_unknown_labels_do_not_count():
    y, p = np.array([1, 0, np.nan, np.nan]), np.array([0.8, 0.2, 0.5, 0.6])
    assert choose(y[:, None], p[:, None], Rule("youden"), 1)[0] == pytest.approx(0.5)


@pytest.mark.parametrize("text", ["youden", "f1", "sensitivity=0.9", "precision=0.5", "0.5"])
def test_rules_read_what_they_write(text):
    assert str(Rule.parse(text)) == text


@pytest.mark.parametrize("text", ["best", "sensitivity", "sensitivity=2", "1.5", "f1=0.3", ""])
def test_what_is_no_rule_is_told(text):
    with pytest.raises(HeadError, match="not a threshold rule"):
        Rule.parse(text)
