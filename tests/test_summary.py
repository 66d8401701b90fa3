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


def test_nothing_is_passed_where_every_image_is_its_own_patient(make_study):
    tiny = make_study(20)
    alone = Study(tiny.table.assign(patient_id=tiny.table["image_id"]), tiny.labels, "tiny", tiny.root)
    assert "NOTHING CHECKED" in summarise(alone).leakage()
    assert "passed" in summarise(tiny).leakage()


def test_one_split_has_no_leakage_to_check(make_study):
    assert "nothing to check" in summarise(make_study(10).split("train")).leakage()


def test_splits_are_compared_in_what_they_should_be_alike_in(sample_study):
    summary = summarise(sample_study)
    table = sample_study.table
    test = table[table["split"] == "test"]
    assert summary.balance["images per patient"]["test"] == len(test) / test["patient_id"].nunique()
    assert summary.balance["view AP"]["all"] == (table["view"] == "AP").mean()
    assert summary.balance["sex F"]["test"] == (test["sex"] == "F").mean()
    np.testing.assert_allclose(summary.balance["age, mean"]["test"], test["age"].mean())
    assert [row["all"] for row in summary.tables()["splits compared"]][:2] == ["1.10", "35.3%"]


def test_a_split_that_is_no_random_part_is_named(make_study):
    tiny = make_study(200)
    table = tiny.table.assign(view="PA", sex="F")
    table.loc[table["split"] == "test", "view"] = "AP"
    summary = summarise(Study(table, tiny.labels, "tiny", tiny.root))
    assert any("split test is unlike the whole study: view AP 100.0%, in all 20.0%" in note for note in summary.notes())
    assert summarise(tiny).unlike == ()
