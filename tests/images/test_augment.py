"""A pass depends on (seed, image, pass) alone, keeps to its policy's ranges, and means what it says geometrically."""

import dataclasses

import numpy as np
import pytest

from cxrfeat._images.choices import DEFAULT_POLICY, POLICIES, Policy, policy_of
from cxrfeat._images.prepare import matrix
from cxrfeat.errors import RecipeError


def test_pass_0_is_never_augmented():
    np.testing.assert_array_equal(matrix(POLICIES["paper"], 3, "x", 0), np.eye(2, 3))


def test_a_draw_does_not_depend_on_what_was_drawn_before():
    policy = POLICIES["paper"]
    forward = {(i, k): matrix(policy, 7, f"image{i}", k) for i in range(20) for k in (1, 2, 3)}
    for (i, k), drawn in reversed(forward.items()):
        np.testing.assert_array_equal(matrix(policy, 7, f"image{i}", k), drawn)


def test_seed_image_and_pass_each_change_the_draw():
    policy = POLICIES["mild"]
    draws = [matrix(policy, s, i, k) for s, i, k in ((0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2))]
    assert len({d.tobytes() for d in draws}) == 4


def test_draws_are_frozen_for_ever():
    # By hand: sha256("0\x1f1\x1fa"), first four bytes over 2**32, spread over +-10 degrees.
    import hashlib

    u = int.from_bytes(hashlib.sha256(b"0\x1f1\x1fa").digest()[:4], "big") / 2**32
    drawn = matrix(Policy("turn", rotation=10), 0, "a", 1)
    assert np.degrees(np.arctan2(drawn[1, 0], drawn[0, 0])) == pytest.approx(20 * u - 10)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_draws_keep_to_the_ranges_and_fill_them(name):
    policy = POLICIES[name]
    drawn = np.stack([matrix(policy, 0, str(i), 1) for i in range(2000)])
    area = np.abs(np.linalg.det(drawn[:, :, :2])) ** -0.5  # zoom; turning, mirroring and shearing keep areas
    assert area.min() >= 1 - policy.zoom - 1e-9
    assert area.max() <= 1 + policy.zoom + 1e-9
    assert np.ptp(area) > 1.9 * policy.zoom
    mirrored = np.linalg.det(drawn[:, :, :2]) < 0
    assert mirrored.mean() == pytest.approx(policy.flip, abs=0.04)
    # Where the source's centre is shown: at the shift.
    shift = -np.linalg.solve(drawn[:, :, :2], drawn[:, :, 2:])[:, :, 0]
    assert np.abs(shift[:, 0]).max() <= policy.shift_x + 1e-9
    assert np.ptp(shift[:, 0]) > 1.9 * policy.shift_x


def test_a_policy_survives_the_recipe():
    for policy in POLICIES.values():
        assert policy_of(dataclasses.asdict(policy)) == policy


def test_an_unknown_policy_is_named():
    with pytest.raises(RecipeError, match="wild"):
        policy_of("wild")
    with pytest.raises(RecipeError, match="augmentation"):
        policy_of({**dataclasses.asdict(POLICIES["mild"]), "elastic": 3})
    assert DEFAULT_POLICY in POLICIES
