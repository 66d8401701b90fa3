"""Tables: every format holds the same numbers, and says what they stand on."""

import csv
import io
import json

import pandas as pd
import pytest

from cxrfeat._evaluate import evaluate
from cxrfeat._report import tables
from cxrfeat._run import Run
from cxrfeat.errors import EvaluationError


@pytest.fixture
def found(make_run):
    return evaluate(Run.open(make_run("a", weights="random:0")), replicates=50)


def test_json_holds_everything_with_null_for_undefined(found):
    read = json.loads(found.render("json"))
    assert read["format"] == "cxrfeat-metrics" and read["provenance"]["random_weights"] is True
    assert read["labels"][13]["auroc"] is None and read["macro"]["over"] == found.macro["over"]
    assert read["labels"][2]["auroc"] == found.rows[2]["auroc"]
    assert read["accuracy"] == found.accuracy
    assert [g["group"] for g in read["groups"]] == ["AP", "PA"]


def test_csv_has_a_row_per_label_and_group_with_ends_of_intervals(found):
    rows = list(csv.DictReader(io.StringIO(found.render("csv"))))
    assert len(rows) == 3 * 16 and rows[0]["group"] == "" and rows[16]["group"] == "view=AP"
    low, high = found.rows[0]["auroc_interval"]
    assert float(rows[0]["auroc_interval_low"]) == pytest.approx(low, rel=1e-5)
    assert float(rows[0]["auroc_interval_high"]) == pytest.approx(high, rel=1e-5)
    assert rows[13]["auroc"] == "" and rows[14]["over"] == "13" and rows[0]["random_weights"] == "True"


def test_latex_is_balanced_and_escaped_and_has_the_groups(found):
    text = found.render("latex")
    assert text.count(r"\begin") == text.count(r"\end") == 4
    assert r"Pleural\_Thickening" in text and "RANDOM WEIGHTS: NOT A RESULT" in text and "view AP" in text
    first = text.split(r"\end{table}")[0]
    body = [line for line in first.splitlines() if line.endswith(r"\\")]
    assert len(body) == 17 and len({line.count("&") - line.count(r"\&") for line in body}) == 1
    assert "%" not in text.replace(r"\%", "")


def test_markdown_is_one_table_wide_throughout(found):
    lines = [line for line in found.render("markdown").splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines[:18]}) == 1
    assert (
        "| Effusion |" in "\n".join(lines)
        and "macro over 13" in "\n".join(lines)
        and any(line.startswith("| view AP |") for line in lines)
    )


def test_what_names_hold_is_text_in_every_format():
    rows = [{"label": "a_b & 50% <script> [x](y) | ~^", "site": "=HYPERLINK(1)", "n": -3, "value": -0.5, "at": "@x"}]
    assert tables.tex(rows[0]["label"]) == (
        r"a\_b \& 50\% \textless{}script\textgreater{} [x](y) \textbar{} \textasciitilde{}\textasciicircum{}"
    )
    assert tables.tex("\\input{x}") == r"\textbackslash{}input\{x\}"
    line = tables.markdown(rows).splitlines()[2]
    assert r"a\_b & 50% \<script\> \[x\](y) \| ~^" in line
    (read,) = csv.DictReader(io.StringIO(tables.csv_text(rows)))
    assert read["site"] == "'=HYPERLINK(1)" and read["at"] == "'@x" and (read["n"], read["value"]) == ("-3", "-0.5")


def test_results_print_in_a_shell_and_in_a_notebook(found):
    for text in (repr(found), found._repr_html_()):
        assert "Effusion" in text and "RANDOM WEIGHTS: NOT A RESULT" in text and "view AP" in text
    frame = found.to_frame()
    assert frame.loc[2, "auroc_interval_low"] == found.rows[2]["auroc_interval"][0] and len(frame) == 48


def test_the_accuracy_stands_beside_its_baseline(found):
    line = found.accuracy_line()
    assert f"{found.accuracy['at_half']:.3f} at 0.5" in line and "always-negative baseline" in line


def test_n_has_a_column_where_labels_are_not_all_known(make_run, found):
    assert "n" not in found.rows_to_read()[0]
    run = make_run("b")
    study = pd.read_csv(run / "study.csv", dtype=str)
    study.loc[study.index % 3 == 0, "Mass"] = ""
    study.to_csv(run / "study.csv", index=False)
    rows = evaluate(Run.open(run), replicates=0).rows_to_read()
    assert rows[4]["n"] < rows[0]["n"] == rows[-2]["n"]


def test_an_unknown_format_is_refused(found):
    with pytest.raises(EvaluationError, match="unknown table format 'excel'"):
        found.render("excel")
