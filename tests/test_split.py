"""Splits keep patients whole and labels in proportion, and depend on the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrfeat._split import assign, stratified
from cxrfeat.errors import StudyError

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def tables(n: int, patients: int, prevalence: list[float], seed: int):
    rng = np.random.default_rng(seed)
    y = (rng.random((n, len(prevalence))) < prevalence).astype(float)
    return y, rng.integers(0, patients, n).astype(str)


def splits_of(patients, split) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for patient, name in zip(patients, split, strict=True):
        found.setdefault(patient, set()).add(name)
    return found


@settings(max_examples=40, deadline=None)
@given(n=st.integers(10, 200), patients=st.integers(3, 60), seed=st.integers(0, 10))
def test_no_patient_is_in_two_splits_and_no_split_is_empty(n, patients, seed):
    y, who = tables(n, patients, [0.3, 0.05], seed)
    if len(set(who)) < 3:
        return
    split = stratified(y, who, SHARES, seed)
    assert all(len(names) == 1 for names in splits_of(who, split).values())
    assert set(split) == set(SHARES)


def test_labels_and_images_are_spread_in_proportion():
    y, who = tables(5000, 1500, [0.18, 0.05, 0.01, 0.004], 1)
    split = stratified(y, who, SHARES, 0)
    for name, share in SHARES.items():
        mine = split == name
        assert mine.mean() == pytest.approx(share, abs=0.005)
        # Within one image of the exact share, where a random split by patient would be off by several.
        np.testing.assert_allclose(y[mine].sum(axis=0), share * y.sum(axis=0), atol=1.5)


def like_chestxray14(patients: int, seed: int):
    """A table with the marginals of ChestX-ray14: few patients have most images, and these are sicker, AP and late.

    On the full table 30,805 patients have 112,120 images: 57 % have one image, 1 % more than 30.
    """
    rng = np.random.default_rng(seed)
    size = np.minimum(1 + (1.09 * rng.pareto(1.3, patients)).astype(int), 184)
    unit = np.repeat(np.arange(patients), size)
    heavy = np.log(size)[unit]
    prevalence = [0.103, 0.025, 0.119, 0.177, 0.052, 0.056, 0.013, 0.047, 0.042, 0.021, 0.022, 0.015, 0.030, 0.002]
    base = 0.7 * np.array(prevalence) * np.exp(rng.normal(0, 0.5, (patients, 14)))[unit]
    y = (rng.random((len(unit), 14)) < np.minimum(base * np.exp(0.15 * heavy)[:, None], 0.5)).astype(float)
    follow_up = np.arange(len(unit)) - np.repeat(np.cumsum(size) - size, size)
    return y, unit.astype(str), {
        "ap": (rng.random(len(unit)) < np.minimum(0.2 + 0.1 * heavy, 0.8)).astype(float),
        "male": (rng.random(patients) < 0.56).astype(float)[unit],
        "age": rng.normal(47, 17, patients)[unit],
        "follow-up": follow_up.astype(float),
        "first": (follow_up == 0).astype(float),
    }  # fmt: skip


def measured(split, who, covariates) -> dict[tuple[str, str], float]:
    """Per split: images per patient, and the mean of every covariate."""
    found = {(s, "images per patient"): (split == s).sum() / len(set(who[split == s])) for s in SHARES}
    return found | {(s, name): v[split == s].mean() for s in SHARES for name, v in covariates.items()}


@pytest.mark.parametrize("seed", range(3))
def test_splits_are_as_alike_as_random_patients_and_labels_stay_in_proportion(seed):
    y, who, covariates = like_chestxray14(6000, seed)
    rng, patients = np.random.default_rng(0), np.unique(who)
    drawn = []
    for _ in range(60):
        names = rng.choice(list(SHARES), len(patients), p=list(SHARES.values()))
        drawn.append(measured(names[np.searchsorted(patients, who)], who, covariates))
    split = stratified(y, who, SHARES, seed)
    for key, value in measured(split, who, covariates).items():
        random = np.array([one[key] for one in drawn])
        assert abs(value - random.mean()) < 4 * random.std(), key
    for name, share in SHARES.items():
        assert np.abs(y[split == name].sum(axis=0) - share * y.sum(axis=0)).max() <= 1
        assert (split == name).mean() == pytest.approx(share, abs=0.001)


def test_folds_and_carved_validation_are_alike_too():
    """Both come of the same function: five equal shares, and a share of the training patients of a list."""
    y, who, _ = like_chestxray14(4000, 3)
    folds = stratified(y, who, dict.fromkeys("01234", 1.0), 0)
    per = [(folds == f).sum() / len(set(who[folds == f])) for f in "01234"]
    assert max(per) / min(per) < 1.3
    listed = np.where(who.astype(int) % 4 == 0, "test", "train")
    split, _ = assign(y, who, listed, val=0.1)
    per = {s: (split == s).sum() / len(set(who[split == s])) for s in ("train", "val")}
    assert per["val"] == pytest.approx(per["train"], rel=0.15)


def test_one_patient_per_image_meets_the_wanted_counts_exactly():
    y = np.zeros((100, 1))
    y[:20] = 1
    split = stratified(y, np.arange(100).astype(str), SHARES, 3)
    assert {s: int((split == s).sum()) for s in SHARES} == {"train": 70, "val": 10, "test": 20}
    assert {s: int(y[split == s].sum()) for s in SHARES} == {"train": 14, "val": 2, "test": 4}


def test_the_order_of_the_rows_plays_no_part_and_the_seed_does():
    y, who = tables(400, 150, [0.2, 0.02], 2)
    order = np.random.default_rng(5).permutation(400)
    split = stratified(y, who, SHARES, 0)
    np.testing.assert_array_equal(stratified(y[order], who[order], SHARES, 0), split[order])
    assert (stratified(y, who, SHARES, 1) != split).any()


def test_unknown_labels_count_for_nothing():
    y, who = tables(300, 100, [0.2, 0.1], 4)
    unknown = np.where(y == 0, np.nan, y)
    np.testing.assert_array_equal(stratified(unknown, who, SHARES, 0), stratified(y, who, SHARES, 0))


def test_too_few_patients_and_senseless_shares_are_refused():
    with pytest.raises(StudyError, match="2 patients cannot be split into train, val, test"):
        stratified(np.ones((4, 1)), np.array(["a", "a", "b", "b"]), SHARES)
    with pytest.raises(StudyError, match="shares of 0 or more"):
        stratified(np.ones((4, 1)), np.array(list("abcd")), {"train": 1.0, "test": -0.1})
    with pytest.raises(StudyError, match="leave no images to train on"):
        assign(np.ones((4, 1)), np.array(list("abcd")), val=0.5, test=0.5)


def test_validation_is_carved_from_the_training_patients_of_a_list():
    y, who = tables(1000, 300, [0.1], 7)
    listed = np.where(who.astype(int) < 200, "train", "test")
    split, _ = assign(y, who, listed, val=0.1)
    np.testing.assert_array_equal(split == "test", listed == "test")
    assert (split == "val").sum() == pytest.approx(100, abs=4)  # a share of all images, not of the training ones
    assert all(len(names) == 1 for names in splits_of(who, split).values())


def test_a_list_with_validation_images_is_kept_as_it_is():
    y, who = tables(50, 50, [0.1], 0)
    listed = np.array(["train", "val", "test", "", "train"] * 10)
    np.testing.assert_array_equal(assign(y, who, listed)[0], listed)
