"""Counts of a study, against counts made another way."""

from __future__ import annotations

import numpy as np

from cxrfeat._study import Study
from cxrfeat._summary import summarise


def test_counts_are_those_of_a_plain_group_by(sample_study):
    summary = summarise(sample_study)
    grouped = sample_study.table.groupby("split")
    assert summary.images == {"all": 150, **grouped.size().to_dict()}
    assert summary.patients == {"all": 136, **grouped["patient_id"].nunique().to_dict()}
    for label in sample_study.labels:
        assert summary.positives[label] == {"all": int(sample_study.table[label].sum())} | {
            side: int(total) for side, total in grouped[label].sum().items()
        }
    assert summary.no_finding["all"] == int((sample_study.table[list(sample_study.labels)].sum(axis=1) == 0).sum())
    assert summary.unknown == {}
    assert "passed" in summary.leakage()
    assert [row["label"] for row in summary.rows()][:14] == list(sample_study.labels)


def test_unknown_labels_are_counted_and_are_no_absence(make_study):
    tiny = make_study(10)
    table = tiny.table.copy()
    table.loc[:2, "Mass"] = np.nan
    table.loc[0, "Effusion"] = 0.0
    summary = summarise(Study(table, tiny.labels, "tiny", tiny.root))
    assert summary.unknown == {"Mass": 3}
    assert summary.no_finding["all"] == int((table[["Effusion", "Mass"]] == 0).all(axis=1).sum())


def test_one_split_has_no_leakage_to_check(make_study):
    assert "nothing to check" in summarise(make_study(10).split("train")).leakage()
