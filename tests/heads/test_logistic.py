"""The logistic head against scikit-learn at its tightest tolerance, and against scikit-learn's own rules."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from cxrfeat._heads.solver import path as solver
from cxrfeat._heads.solver.estimator import MultiLabelLogistic
from cxrfeat._heads.solver.labels import Labels
from cxrfeat._heads.solver.rows import MatrixRows
from cxrfeat._heads.solver.sums import LocalSums
from cxrfeat._heads.weighting import weigh


@parametrize_with_checks([MultiLabelLogistic()])
def test_keeps_scikit_learns_rules(estimator, check):
    check(estimator)


def embeddings(n, d, labels=3, seed=0, dtype=np.float64):
    """Non-negative, correlated, of different scales, as pooled features are; labels that depend on them."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 5))
    x = np.maximum(latent @ rng.standard_normal((5, d)) + rng.standard_normal((n, d)), 0.0)
    x *= np.exp(rng.standard_normal(d))
    logits = latent[:, :labels] * 1.5 - np.arange(1, labels + 1) * 0.7
    return x.astype(dtype), (rng.random((n, labels)) < 1 / (1 + np.exp(-logits))).astype(float)


def reference(x, y, weight, C, scale_by=None):
    """One label by scikit-learn, in float64, on standardised features; folded back to raw ones."""
    known = ~np.isnan(y)
    scaler = StandardScaler().fit((x if scale_by is None else scale_by).astype(np.float64))
    model = LogisticRegression(C=C, tol=1e-12, max_iter=20000, solver="lbfgs")
    model.fit(scaler.transform(x[known].astype(np.float64)), y[known], sample_weight=weight[known])
    if len(x) > x.shape[1]:
        model.set_params(solver="newton-cholesky", warm_start=True, max_iter=200)
        model.fit(scaler.transform(x[known].astype(np.float64)), y[known], sample_weight=weight[known])
    coef = model.coef_[0] / scaler.scale_
    return coef, model.intercept_[0] - coef @ scaler.mean_


@pytest.fixture
def large(monkeypatch):
    """Send every problem through the sweeps, as only large ones go by themselves."""
    monkeypatch.setattr(solver, "DENSE_BYTES", 0)


@pytest.mark.parametrize("way", ["whole", "sweeps"])
@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_a_probability_is_a_share_of_a_positive_and_of_a_negative(weighting, way, monkeypatch):
    """The oracle is scikit-learn with every row twice: as a positive of weight w_p t, and a negative of w_n (1 - t)."""
    if way == "sweeps":
        monkeypatch.setattr(solver, "DENSE_BYTES", 0)
    x, y = embeddings(400, 20)
    y[::5, 0], y[::7, 1] = np.random.default_rng(1).random(80), np.nan
    ours = MultiLabelLogistic(C=0.3, weighting=weighting, tol=1e-14, max_iter=500).fit(x, y)
    weights = weigh(y, ("a", "b", "c"), weighting)
    for k in range(3):
        known = ~np.isnan(y[:, k])
        t = y[known, k]
        twice, classes = np.concatenate([x[known], x[known]]), np.repeat([1.0, 0.0], known.sum())
        weight = np.concatenate([weights.positive[k] * t, weights.negative[k] * (1 - t)])
        coef, intercept = reference(twice, classes, weight, 0.3, scale_by=x)
        assert ours.coef_[k] == pytest.approx(coef, rel=1e-4, abs=1e-5 * np.abs(coef).max())
        assert ours.intercept_[k] == pytest.approx(intercept, rel=1e-4, abs=1e-5)
    with pytest.raises(ValueError, match="are 0 to 1, or NaN"):
        MultiLabelLogistic().fit(x, y * 2)


@pytest.mark.parametrize("way", ["whole", "sweeps"])
@pytest.mark.parametrize("shape", [(400, 20), (60, 150), (3000, 60)])
@pytest.mark.parametrize("weighting", ["none", "paper", "balanced"])
def test_coefficients_are_scikit_learns(shape, weighting, way, monkeypatch):
    if way == "sweeps":
        monkeypatch.setattr(solver, "DENSE_BYTES", 0)
    x, y = embeddings(*shape)
    y[::7, 1] = np.nan
    ours = MultiLabelLogistic(C=0.3, weighting=weighting, tol=1e-14, max_iter=500).fit(x, y)
    weight = weigh(y, ("a", "b", "c"), weighting).of(y)
    for k in range(3):
        coef, intercept = reference(x, y[:, k], weight[:, k], 0.3)
        assert ours.coef_[k] == pytest.approx(coef, rel=1e-4, abs=1e-5 * np.abs(coef).max())
        assert ours.intercept_[k] == pytest.approx(intercept, rel=1e-4, abs=1e-5)


def test_float32_rows_reach_the_optimum_of_float64(large):
    x, y = embeddings(3000, 60, dtype=np.float32)
    exact = MultiLabelLogistic(tol=1e-13, max_iter=500).fit(x.astype(np.float64), y)
    ours = MultiLabelLogistic(tol=1e-7).fit(x, y)
    assert (ours.objective_ / exact.objective_ - 1 < 1e-6).all()
    assert np.abs(ours.coef_ - exact.coef_).max() < 2e-2 * np.abs(exact.coef_).max()


@pytest.mark.parametrize("way", ["whole", "sweeps"])
@pytest.mark.parametrize("case", ["constant", "duplicate", "separable", "one positive", "far from zero"])
def test_degenerate_data_still_gives_scikit_learns_answer(case, way, monkeypatch):
    if way == "sweeps":
        monkeypatch.setattr(solver, "DENSE_BYTES", 0)
    x, y = embeddings(500, 12, labels=2)
    if case == "constant":
        x[:, 3] = 0.1
    elif case == "duplicate":
        x[:, 4] = x[:, 5]
    elif case == "separable":
        y[:, 0] = x[:, 0] > np.median(x[:, 0])
    elif case == "one positive":
        y[:, 0] = 0
        y[17, 0] = 1
    else:
        x[:, 2] = 1e4 + 1e-2 * x[:, 2]
    ours = MultiLabelLogistic(C=1.0, tol=1e-14, max_iter=500).fit(x, y)
    for k in range(2):
        coef, _ = reference(x, y[:, k], np.ones(len(y)), 1.0)
        assert ours.coef_[k] == pytest.approx(coef, rel=1e-3, abs=1e-4 * np.abs(coef).max())
    if case == "constant":
        assert np.abs(ours.coef_[:, 3]).max() < 1e-9


def test_a_float32_feature_far_from_zero_keeps_its_digits(large):
    x, y = embeddings(2500, 12, labels=2)
    x[:, 2] = 300 + x[:, 2]
    narrow = x.astype(np.float32)
    ours = MultiLabelLogistic(tol=1e-7).fit(narrow, y)
    exact = MultiLabelLogistic(tol=1e-13).fit(narrow.astype(np.float64), y)
    assert (ours.objective_ / exact.objective_ - 1 < 1e-6).all()


def test_every_label_has_its_own_strength():
    x, y = embeddings(300, 10)
    together = MultiLabelLogistic(C=[0.01, 1.0, 100.0], tol=1e-13).fit(x, y)
    for k, C in enumerate((0.01, 1.0, 100.0)):
        alone = MultiLabelLogistic(C=C, tol=1e-13).fit(x, y[:, k])
        assert together.coef_[k] == pytest.approx(alone.coef_[0], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("way", ["whole", "sweeps"])
def test_a_path_ends_where_single_fits_do(way, monkeypatch):
    if way == "sweeps":
        monkeypatch.setattr(solver, "DENSE_BYTES", 0)
    x, y = embeddings(900, 30)
    Cs = np.logspace(-3, 1, 6)
    coef, _ = MultiLabelLogistic(tol=1e-12, max_iter=500).fit_path(x, y, Cs)
    for C, found in zip(Cs, coef, strict=True):
        single = MultiLabelLogistic(C=C, tol=1e-12, max_iter=500).fit(x, y)
        assert found == pytest.approx(single.coef_, rel=1e-3, abs=1e-4 * np.abs(single.coef_).max())


def test_a_label_with_one_class_is_nan_and_the_others_are_fitted():
    x, y = embeddings(200, 8)
    y[:, 1] = 0
    model = MultiLabelLogistic().fit(x, y)
    assert np.isnan(model.predict_proba(x)[:, 1]).all()
    assert np.isfinite(model.predict_proba(x)[:, [0, 2]]).all()


def test_stopping_early_is_said(large):
    x, y = embeddings(400, 20)
    with pytest.warns(ConvergenceWarning, match="3 of 3 labels"):
        MultiLabelLogistic(max_iter=1, tol=1e-12).fit(x, y)


def test_the_gap_reported_is_no_rosier_than_the_truth_allows(large):
    x, y = embeddings(3000, 60)
    best = MultiLabelLogistic(tol=1e-14, max_iter=500).fit(x, y).objective_
    for tol in (1e-2, 1e-4, 1e-6):
        model = MultiLabelLogistic(tol=tol).fit(x, y)
        assert (model.objective_ / best - 1 <= 10 * tol).all()


def test_the_answer_does_not_depend_on_where_the_rows_come_from(large):
    """A source that hands out copies, as a file does, gives the same bits as a matrix in memory."""
    x, y = embeddings(5000, 16, dtype=np.float32)

    class Copies(MatrixRows):
        def blocks(self):
            for place, block in super().blocks():
                yield place, block.copy()

    labels, C = Labels.of(y, np.ones(3), np.ones(3)), np.ones(3)
    one, two = (solver.solve(LocalSums(rows, labels), C) for rows in (MatrixRows(x), Copies(x)))
    assert (one.coef == two.coef).all()
