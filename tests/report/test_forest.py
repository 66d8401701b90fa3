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


def test_the_forest_plot_says_what_it_stands_on(found, tmp_path):
    written = found.save(tmp_path / "forest.png")
    assert [file.suffix for file in written] == [".png", ".svg", ".csv"]
    drawn = written[1].read_text()
    for part in ("random weights: not a result", "b against a", "AUROC minus that of a", "not defined", "macro"):
        assert part in drawn
