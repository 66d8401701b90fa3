"""Tables: every format holds the same numbers, and says what they stand on."""

import csv
import io
import json

import pandas as pd
import pytest

from cxrfeat._evaluate import evaluate_run
from cxrfeat._report import tables
from cxrfeat._run import Run
from cxrfeat.errors import EvaluationError


@pytest.fixture
def found(make_run):
    return evaluate_run(Run.open(make_run("a", weights="random:0")), replicates=50)


def test_json_holds_everything_with_null_for_undefined(found):
    read = json.loads(tables.render(found, "json"))
    assert read["format"] == "cxrfeat-metrics" and read["stands_on"]["random_weights"] is True
    assert read["labels"][13]["auroc"] is None and read["macro"]["over"] == found.macro["over"]
    assert read["labels"][2]["auroc"] == found.rows[2]["auroc"]
    assert read["accuracy"] == found.accuracy
    assert [g["group"] for g in read["groups"]] == ["AP", "PA"]


def test_csv_has_a_row_per_label_and_group_with_ends_of_intervals(found):
    rows = list(csv.DictReader(io.StringIO(tables.render(found, "csv"))))
    assert len(rows) == 3 * 16 and rows[0]["group"] == "" and rows[16]["group"] == "view=AP"
    low, high = found.rows[0]["auroc_bootstrap"]
    assert float(rows[0]["auroc_bootstrap_low"]) == pytest.approx(low, rel=1e-5)
    assert float(rows[0]["auroc_bootstrap_high"]) == pytest.approx(high, rel=1e-5)
    assert rows[13]["auroc"] == "" and rows[14]["over"] == "13" and rows[0]["random_weights"] == "True"


def test_latex_is_balanced_and_escaped(found):
    text = tables.render(found, "latex")
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert r"Pleural\_Thickening" in text and "RANDOM WEIGHTS: NOT A RESULT" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 17 and len({line.count("&") - line.count(r"\&") for line in body}) == 1
    assert "%" not in text.replace(r"\%", "")


def test_markdown_is_one_table_wide_throughout(found):
    lines = [line for line in tables.render(found, "markdown").splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines[:18]}) == 1
    assert "| Effusion |" in "\n".join(lines) and "macro over 13" in "\n".join(lines)


def test_the_accuracy_stands_beside_its_baseline(found):
    line = tables.accuracy_line(found)
    assert f"{found.accuracy['at_half']:.3f} at 0.5" in line and "calling everything absent" in line


def test_n_has_a_column_where_labels_are_not_all_known(make_run, found):
    assert "n" not in tables.rows_to_read(found)[0]
    run = make_run("b")
    study = pd.read_csv(run / "study.csv", dtype=str)
    study.loc[study.index % 3 == 0, "Mass"] = ""
    study.to_csv(run / "study.csv", index=False)
    rows = tables.rows_to_read(evaluate_run(Run.open(run), replicates=0))
    assert rows[4]["n"] < rows[0]["n"] == rows[-2]["n"]


def test_an_unknown_format_is_refused(found):
    with pytest.raises(EvaluationError, match="no table format 'excel'"):
        tables.render(found, "excel")
