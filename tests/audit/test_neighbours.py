"""The search for alike pairs is exact: it finds what comparing every pair finds, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from cxrfeat._audit import neighbours


def vectors(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return neighbours.unit(np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32))


def brute(x: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    cosines = x.astype(float) @ x.T.astype(float)
    return {(int(a), int(b)) for a, b in np.argwhere(np.triu(cosines >= threshold, 1))}


@pytest.mark.parametrize("n", [1, 7, 8, 61])
def test_every_pair_above_the_threshold_is_found_once_whatever_the_blocks(n):
    x = vectors(n, 5)
    found = neighbours.alike(x, 0.4, block=8)
    pairs = list(zip(found.a.tolist(), found.b.tolist(), strict=True))
    assert set(pairs) == brute(x, 0.4) and len(pairs) == len(set(pairs))
    assert (found.a < found.b).all() and (np.diff(found.cosine) <= 0).all()
    np.testing.assert_allclose(found.cosine, [x[a] @ x[b] for a, b in pairs], atol=1e-6)


def test_of_too_many_pairs_the_most_alike_are_kept():
    x = vectors(61, 5)
    whole = neighbours.alike(x, -1.0, block=8)
    found = neighbours.alike(x, -1.0, most=20, block=8)
    assert len(found.a) == 20
    np.testing.assert_array_equal(found.cosine, whole.cosine[:20])


def test_neighbours_are_of_other_patients_and_in_order():
    x, groups = vectors(50, 4), np.arange(50) // 2
    places, cosines = neighbours.neighbours(x, groups, np.array([0, 9]), 3)
    for query, mine, values in zip((0, 9), places, cosines, strict=True):
        all_of_them = x @ x[query]
        all_of_them[groups == groups[query]] = -2
        assert mine.tolist() == np.argsort(-all_of_them)[:3].tolist()
        np.testing.assert_allclose(values, np.sort(all_of_them)[::-1][:3], atol=1e-6)


def test_whitened_features_are_unit_vectors_in_which_no_direction_counts_more():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 6)) * [100, 1, 1, 1, 1, 1] + 50).astype(np.float32)
    z = neighbours.whitened(x.copy())
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose((z.T @ z) / len(z), np.eye(6) / 6, atol=0.02)


def test_a_feature_that_never_varies_is_left_out():
    x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    x[:, 1] = 7
    assert neighbours.whitened(x).shape == (100, 2)


def test_the_level_bounds_the_neighbours_that_are_no_copies():
    """Of independent vectors at most the asked number lies above it, and copies of every image do not move it."""
    x = vectors(2000, 32)
    level = neighbours.level(neighbours.neighbours(x, np.arange(2000), np.arange(300), 40)[1], 0.1)
    assert len(neighbours.alike(x, level).a) <= 0.1 * 2000
    doubled = np.concatenate([x, x])
    copies = neighbours.level(neighbours.neighbours(doubled, np.arange(4000), np.arange(300), 40)[1], 0.1)
    assert 0.5 < copies < 0.9
