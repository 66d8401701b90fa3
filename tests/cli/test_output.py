"""What is printed can be read: no number and no path is ever broken, however narrow the terminal."""

from __future__ import annotations

import json

import pytest
from click.shell_completion import BashComplete
from cxrfeat_cli import output
from cxrfeat_cli.main import cli

PATH = "runs/sample-densenet121-logistic-weighted/figures/roc-of-every-label.png"
ROWS = [
    {"made": "ROC curves of every label", "auroc": 0.8123456, "interval": "0.790 to 0.834", "n": 112120, "file": PATH},
    {"made": "a table", "auroc": float("nan"), "interval": "", "n": 7, "file": "metrics.csv"},
]


@pytest.fixture
def terminal(monkeypatch):
    """Pretend that stdout is a terminal so wide."""
    return lambda width: monkeypatch.setattr(output, "_width", lambda: width)


def words(text: str) -> set[str]:
    return set(text.split())


def test_in_a_pipe_a_table_is_as_wide_as_it_needs(capsys):
    output.print_table(ROWS)
    assert {"0.812", "112,120", PATH, "-"} <= words(capsys.readouterr().out)


@pytest.mark.parametrize("width", [140, 100, 80, 60, 40, 20])
def test_on_a_narrow_terminal_columns_go_first_and_nothing_is_broken(terminal, capsys, width):
    terminal(width)
    output.print_table(ROWS)
    said = capsys.readouterr()
    whole = {"ROC", "curves", "of", "every", "label", "0.812", "0.790", "to", "0.834", "112,120", PATH, "a", "table"}
    whole |= {"7", "-", "metrics.csv", *ROWS[0]}
    assert {word for word in words(said.out) if set(word) != {"─"}} <= whole
    left_out = [column for column in ROWS[0] if column not in said.out]
    assert all(column in said.err for column in left_out)
    assert left_out == list(ROWS[0])[len(ROWS[0]) - len(left_out) :], "the last ones"
    if width < 140:
        assert left_out


def test_a_single_column_is_shown_whole_on_any_terminal(terminal, capsys):
    terminal(30)
    output.print_table([{"file": PATH}])
    assert PATH in words(capsys.readouterr().out)


def test_names_that_are_not_utf8_are_escaped_in_json(capsys):
    output.print_json({"image": "film\udcff.png", "label": "Ödem"})
    assert json.loads(capsys.readouterr().out) == {"image": "film\udcff.png", "label": "Ödem"}


def completions(*given: str) -> list[str]:
    complete = BashComplete(cli, {}, "cxrfeat", "_CXRFEAT_COMPLETE")
    return [item.value for item in complete.get_completions(list(given[:-1]), given[-1])]


def test_studies_runs_backbones_and_engines_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ward", "clinic"):
        (tmp_path / "studies").mkdir(exist_ok=True)
        (tmp_path / "studies" / f"{name}.csv").touch()
        (tmp_path / "runs" / f"{name}-logistic").mkdir(parents=True)
        (tmp_path / "runs" / f"{name}-logistic" / "head.json").touch()
    assert completions("extract", "") == ["clinic", "ward", "sample"]
    assert completions("evaluate", "--run", "w") == ["ward-logistic"]
    assert completions("predict", "--study", "cl") == ["clinic"]
    assert "densenet121" in completions("extract", "--backbone", "d")
    assert completions("extract", "--engine", "open") == ["openvino"]
    assert completions("fit-head", "--head", "log") == ["logistic"]
    assert completions("roc", "--label", "Pneumot") == ["Pneumothorax"]
