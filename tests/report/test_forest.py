"""The tables and the forest plot of a comparison."""

import csv
import io
import json

import pytest

from cxrfeat._evaluate import compare
from cxrfeat._report import tables


@pytest.fixture
def found(make_run):
    a, b = make_run("a", weights="random:1"), make_run("b", strength=1.5)
    return compare(a, b, replicates=64)


def test_every_format_holds_the_same_rows(found):
    rows = list(csv.DictReader(io.StringIO(found.render("csv"))))
    read = json.loads(found.render("json"))
    assert [row["label"] for row in rows] == [row["label"] for row in read["rows"]]
    assert float(rows[4]["p_patients_holm"]) == pytest.approx(read["rows"][4]["p_patients_holm"], rel=1e-5)
    assert rows[13]["difference"] == "" and read["rows"][13]["difference"] is None
    for kind in ("latex", "markdown"):
        text = found.render(kind)
        assert "RANDOM WEIGHTS: NOT A RESULT" in text and "is one fit of each head" in text and "Effusion" in text


def test_p_values_are_printed_as_papers_do():
    assert [tables.p_text(p) for p in (0.0004, 0.0312, 1.0, float("nan"))] == ["< 0.001", "0.031", "1.000", "-"]


def test_the_forest_plot_says_on_which_data(found, tmp_path):
    written = found.save(tmp_path / "forest.png")
    assert [file.suffix for file in written] == [".png", ".svg", ".csv"]
    drawn = written[1].read_text()
    for part in ("random weights: not a result", "b against a", "AUROC minus that of a", "not defined", "macro"):
        assert part in drawn


def test_a_table_for_a_paper_has_a_column_for_each_run_and_the_best_in_bold(make_run):
    a, b = make_run("run_a"), make_run("run_b", strength=1.5)
    found = compare(a, b, table=True, replicates=64)
    text = found.render("latex")
    assert r"label & n+ & run\_a & run\_b \\" in text and "Bold: the best estimate" in text
    rows = found.tables()[""]
    for shown, row in zip(rows[:13], found.rows[:13], strict=True):
        first, second = shown["run_a"], shown["run_b"]
        better = row["auroc"] > row["auroc_baseline"]
        assert isinstance(second, tables.Bold) == better or row["auroc"] == row["auroc_baseline"]
        assert first.startswith(f"{row['auroc_baseline']:.3f} (") and second.startswith(f"{row['auroc']:.3f} (")
        assert (rf"\textbf{{{second}}}" in text) == isinstance(second, tables.Bold)
        assert not isinstance(second, tables.Bold) or f"**{second}**" in found.render("markdown")
    assert rows[14]["label"] == "macro over 13" and len(rows) == 15
    lower = compare(a, b, table=True, metric="brier", replicates=64)
    row = lower.tables()[""][12]
    assert isinstance(row["run_b"], tables.Bold) == (lower.each[1][12]["brier"] < lower.each[0][12]["brier"])
