"""`cxrfeat localize`: the table, the files, and what goes wrong."""

import json

import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

LIST = """Image Index,Finding Label,Bbox [x,y,w,h],,,
film20.png,Mass,100,100,300,300,,,
film21.png,Nodule,500.5,300,200,250.25,,,
film22.png,Mass,900,900,300,300,,,
"""


@pytest.fixture
def boxes(tmp_path):
    path = tmp_path / "BBox_List_2017.csv"
    path.write_text(LIST)
    return path


def call(*args):
    return CliRunner().invoke(cli, ["localize", *map(str, args)])


def test_scores_beside_baselines_and_a_bad_box_told(trained, boxes, tmp_path):
    result = call("--run", trained.run.path, "--boxes", boxes, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 2 and "film22.png: its box of Mass" in result.stderr and "outside" in result.stderr
    found = json.loads(result.stdout)
    assert found["boxes"] == 2 and {r["kind"] for r in found["rows"]} >= {"map", "random map", "centre prior"}
    assert json.loads((tmp_path / "out" / "localize.json").read_text())["rows"] == found["rows"]
    assert (tmp_path / "out" / "figures" / "localize.png").stat().st_size > 10_000
    table = call("--run", trained.run.path, "--boxes", boxes, "--out", tmp_path / "out")
    assert "random map" in table.stdout and "smaller than one cell" in table.stderr


def test_without_a_list_the_sentence_says_what_to_name(trained):
    result = call("--run", trained.run.path)
    assert result.exit_code == 2 and "name one by --boxes" in result.stderr


def test_a_label_that_is_not_in_the_head_is_told_and_the_others_are_scored(trained, tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(LIST.replace("film22.png,Mass,900,900", "film22.png,Scoliosis,100,100"))
    result = call("--run", trained.run.path, "--boxes", path, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 2 and "1 boxes of Scoliosis were not scored" in result.stderr
    found = json.loads(result.stdout)
    assert found["boxes"] == 2 and found["unknown"] == {"Scoliosis": 1}
