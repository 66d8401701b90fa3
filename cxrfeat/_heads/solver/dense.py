"""Newton's method with whole Hessians, for small problems: few rows or few features.

With fewer rows than features the solution is in the span of the rows, whatever the penalty; a QR factorisation then
leaves as many unknowns as rows, and nothing is lost.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from cxrfeat._heads.solver.newton import Found
from cxrfeat._heads.solver.rows import Floats, sigmoid
from cxrfeat._heads.solver.sums import Sums
from cxrfeat._progress import Progress


class Dense:
    """Label by label, on standardised rows in a basis of as few columns as rows.

    `design` is (rows, min(rows, features) + 1), the last column the intercept's; `basis` has orthonormal columns
    (features, rows), or is None if the features are their own basis. Systems this small lose more to threads that wait
    for each other, on a busy machine above all, than they gain.
    """

    def __init__(self, sums: Sums, mean: Floats, scale: Floats, intercept: bool) -> None:
        rows, labels = sums.gathered()
        self.intercept = intercept
        self.basis: Floats | None = None
        self.y, self.weight = labels.dense()
        with threadpool_limits(1, "blas"):
            x = (rows.astype(np.float64) - mean) / scale
            if x.shape[0] < x.shape[1]:
                self.basis, triangle = np.linalg.qr(x.T)
                x = triangle.T
            self.design = np.hstack([x, np.ones((len(x), 1))])

    def run(self, C: Floats, start: Floats, tol: float, steps: int, progress: Progress) -> Found:
        """Fit every label from `start`, (features + 1, labels), at strengths C, (labels,)."""
        w, count = start.copy(), len(C)
        value, gap, converged = np.zeros(count), np.zeros(count), np.zeros(count, dtype=bool)
        with threadpool_limits(1, "blas"):
            for k in range(count):
                begin = start[:, k]
                if self.basis is not None:  # exact within the span
                    begin = np.append(self.basis.T @ begin[:-1], begin[-1])
                found, value[k], gap[k], converged[k] = newton(
                    self.design, self.y[:, k], C[k] * self.weight[:, k], begin, self.intercept, tol, steps
                )
                w[:, k] = found if self.basis is None else np.append(self.basis @ found[:-1], found[-1])
                progress(k + 1, count)
        return w, value, gap, converged


def newton(
    design: Floats, y: Floats, weight: Floats, start: Floats, intercept: bool, tol: float, steps: int
) -> tuple[Floats, float, float, bool]:
    """Minimise sum_i weight_i log-loss_i + |w|^2 / 2 over one label's coefficients; the last is free.

    Stops when half the squared Newton decrement, which estimates how far the objective lies above its optimum, is below
    `tol` times the objective. Returns the coefficients, the objective, that estimate relative to it, and whether it met
    `tol`. Without `intercept` the last coefficient is held.
    """
    ridge = np.ones(design.shape[1])
    ridge[-1] = 0.0
    w, z = start.copy(), design @ start
    value, gap = _objective(z, y, weight, w, ridge), np.inf
    for _ in range(steps):
        p = sigmoid(z)
        gradient = design.T @ (weight * (p - y)) + ridge * w
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design
        hessian.flat[:: len(w) + 1] += ridge
        # Where every p is 0 or 1 the intercept has no curvature left; a trace of it keeps the system solvable.
        hessian[-1, -1] += 1e-12 * (1 + weight.sum())
        if not intercept:
            hessian[-1, :] = hessian[:, -1] = gradient[-1] = 0.0
            hessian[-1, -1] = 1.0
        step = -np.linalg.solve(hessian, gradient)
        gap = float(-gradient @ step) / 2 / max(value, 1e-300)
        # The step is there; taking it squares what is left.
        w, z, value, moved = _walk(design, z, y, weight, w, ridge, step, value)
        if gap <= tol or not moved:  # not moved: limited by floating-point precision
            return w, value, gap, gap <= max(tol, 1e-12)
    return w, value, gap, False


def _walk(
    design: Floats, z: Floats, y: Floats, weight: Floats, w: Floats, ridge: Floats, step: Floats, value: float
) -> tuple[Floats, Floats, float, bool]:
    """Go along a Newton step, halved until the objective falls."""
    dz, size = design @ step, 1.0
    while size > 1e-10:
        new_w, new_z = w + size * step, z + size * dz
        new = _objective(new_z, y, weight, new_w, ridge)
        if new < value:
            return new_w, new_z, new, True
        size /= 2
    return w, z, value, False


def _objective(z: Floats, y: Floats, weight: Floats, w: Floats, ridge: Floats) -> float:
    return float(weight @ (np.logaddexp(0, z) - y * z) + (ridge * w * w).sum() / 2)
