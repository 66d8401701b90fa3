"""Choosing settings: whole patients in a fold, train only, and the table's best is what is fitted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxrfeat._heads import fit_head, load_head
from cxrfeat._heads.ensemble import combine
from cxrfeat._heads.estimators import Svm
from cxrfeat._heads.features import Features, prepare
from cxrfeat._heads.linear import LogisticHead
from cxrfeat._heads.registry import head_class
from cxrfeat._heads.search import _folds, out_of_fold, search
from cxrfeat._heads.weighting import weigh
from cxrfeat._run import Options
from cxrfeat.errors import HeadError


@pytest.fixture
def task(study, embeddings):
    with Features([embeddings]) as features:
        joined = features.join_study(study, 0)
        weighting = weigh(joined.train.y, joined.train.labels, "paper")
        yield prepare(features, joined, weighting, Options(), "logistic")


def test_all_passes_of_a_patient_stand_in_one_fold(task):
    side = _folds(task, 5)
    assert set(side) == set(range(5))
    for patient in set(task.groups):
        assert len(set(side[task.groups == patient])) == 1


def test_scores_are_scikit_learns_on_heads_fitted_without_the_fold(task):
    chosen, table = search(LogisticHead, task, {}, {"C": [0.01, 1.0]}, folds=3)
    side = _folds(task, 3)
    for row, C in enumerate((0.01, 1.0)):
        scores = []
        for fold in range(3):
            head = LogisticHead.fit(task.part((side != fold).nonzero()[0]), LogisticHead.Settings(C=C)).head
            held = (side[: task.images] == fold).nonzero()[0]
            logits, y = head.logits(task.x[held]), task.y[held]
            scores.append(np.mean([roc_auc_score(y[:, k], logits[:, k]) for k in range(3)]))
        assert table["macro_auroc"][row] == pytest.approx(np.mean(scores), abs=2e-3)
    assert chosen == {"C": [0.01, 1.0][int(table["macro_auroc"].argmax())]}


def test_nothing_but_train_is_searched(study, task):
    assert set(task.groups) == set(study.split("train").patients)


def test_a_run_is_fitted_with_what_was_found_and_keeps_the_table(study, embeddings, tmp_path):
    run = fit_head(study, embeddings, out=tmp_path / "run", search=True, grid={"C": (1e-4, 1e-2, 1.0)})
    table = run.notes["search"]
    best = max(table, key=lambda row: row["macro_auroc"])
    assert run.notes["C"] == best["C"]
    assert len(table) == 3


def test_a_grid_of_several_settings_tries_every_combination(task):
    _, table = search(Svm, task, {}, {"C": [0.01, 0.1], "loss": ["hinge", "squared_hinge"]}, folds=2)
    assert len(table) == 4


def test_out_of_fold_logits_come_from_heads_that_never_saw_the_patient(task):
    seen = []

    class Spy(LogisticHead):
        @classmethod
        def fit(cls, part, settings, **options):
            seen.append(set(part.groups))
            return super().fit(part, settings, **options)

    logits = out_of_fold(Spy, task, {}, folds=3)
    side = _folds(task, 3)
    for fold in range(3):
        assert not seen[fold] & set(task.groups[side == fold])
    assert np.isfinite(logits).all()


def test_an_unknown_kind_needs_a_grid(task):
    with pytest.raises(HeadError, match="`grid=C"):
        search(head_class("sklearn.svm:SVC"), task, {})


@pytest.mark.parametrize("method", ["mean", "stacked"])
def test_an_ensemble_of_files_is_the_weighted_sum_of_its_members(method, study, embeddings, write_file, tmp_path):
    other = write_file(tmp_path / "r.h5", study, seed=5, dim=7, backbone="resnet50")
    run = fit_head(study, [embeddings, other], out=tmp_path / "run", ensemble=method)
    run.path.rename(tmp_path / "moved")
    head = load_head(tmp_path / "moved")
    x = np.random.default_rng(0).random((5, 19), dtype=np.float32)
    parts = [m.logits(x[:, a:b]) for m, (a, b) in zip(head.members, head.places, strict=True)]
    assert head.logits(x) == pytest.approx(sum(w * p for w, p in zip(head.weights, parts, strict=True)) + head.offset)
    coef, intercept = head.linear
    assert head.logits(x) == pytest.approx(x @ coef.T + intercept)
    if method == "mean":
        assert (head.weights == 0.5).all()


def test_stacking_gives_a_member_that_knows_nothing_little_weight():
    rng = np.random.default_rng(0)

    class Member:
        labels, fitted, linear = ("a",), np.array([True]), None

    y = (rng.random((2000, 1)) < 0.4).astype(float)
    logits = np.stack([2 * y - 1 + rng.standard_normal(y.shape), rng.standard_normal(y.shape)], axis=1)
    head = combine([Member(), Member()], [(0, 1), (1, 2)], logits, y, weigh(y, ("a",)))
    assert abs(head.weights[1, 0]) < 0.1 * head.weights[0, 0]


def test_several_kinds_make_an_ensemble_or_nothing(study, embeddings, tmp_path):
    with pytest.raises(HeadError, match="add `ensemble`"):
        fit_head(study, embeddings, ["logistic", "lda"], out=tmp_path / "run")
    settings = {"logistic.C": 0.01, "lda.shrinkage": 0.5}
    run = fit_head(study, embeddings, ["logistic", "lda"], out=tmp_path / "run", ensemble="mean", settings=settings)
    assert [m["kind"] for m in run.state["members"]] == ["logistic", "lda"]
    assert run.notes["members"][0]["C"] == 0.01
