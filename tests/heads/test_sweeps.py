"""A sweep's value and gradient are the objective's, and the same bits on any number of cores."""

import numpy as np
import pytest

from cxrfeat import _machine as machine
from cxrfeat._heads.solver import rows as rows_module
from cxrfeat._heads.solver.labels import Labels
from cxrfeat._heads.solver.newton import Objective
from cxrfeat._heads.solver.rows import MatrixRows
from cxrfeat._heads.solver.sums import Frame, LocalSums


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setattr(rows_module, "BLOCK", 16)  # 13 blocks, the last one short
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (200, 5))
    y = (rng.random((200, 3)) < 0.4).astype(float)
    y[rng.random((200, 3)) < 0.2] = np.nan  # unknown
    labels = Labels.of(y, rng.random(3), rng.random(3), rng.random(200))
    return x, y, labels, Frame(x.mean(axis=0), x.std(axis=0), rng.random(3)), rng.normal(size=(6, 3))


def test_value_and_gradient_are_those_of_the_objective_written_out(problem):
    x, y, labels, frame, w = problem
    point = Objective(LocalSums(MatrixRows(x), labels), frame, intercept=True).begin(w)
    z = (x - frame.mean) / frame.scale @ w[:-1] + w[-1]
    weight = frame.strength * np.where(y == 1, labels.positive, labels.negative) * labels.rows[:, None]
    weight, y = np.where(np.isnan(y), 0, weight), np.nan_to_num(y)
    value = (weight * (np.logaddexp(0, z) - y * z)).sum(axis=0) + (w[:-1] ** 2).sum(axis=0) / 2
    residual = weight * (1 / (1 + np.exp(-z)) - y)
    gradient = np.vstack([((x - frame.mean) / frame.scale).T @ residual + w[:-1], residual.sum(axis=0)])
    np.testing.assert_allclose(point.value, value, rtol=1e-12)
    np.testing.assert_allclose(point.gradient, gradient, rtol=1e-9, atol=1e-9)


def test_a_sweep_gives_the_same_bits_on_any_number_of_cores(problem, monkeypatch):
    x, _, labels, frame, w = problem
    found = []
    for cores in (1, 4):
        monkeypatch.setattr(machine, "cores", lambda cores=cores: cores)
        sums = LocalSums(MatrixRows(x.astype(np.float32)), labels)
        found.append((Objective(sums, frame, intercept=True).begin(w), sums.z))
    np.testing.assert_array_equal(found[0][0].gradient, found[1][0].gradient)
    np.testing.assert_array_equal(found[0][0].value, found[1][0].value)
    np.testing.assert_array_equal(found[0][1], found[1][1])
