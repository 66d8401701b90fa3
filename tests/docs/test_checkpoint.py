"""The how-to on checkpoints is true: its four commands lead from a release file to an evaluated and compared run."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

from cxrfeat._backbones.checkpoints.layouts import LAYOUTS
from cxrfeat._run import Run

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "checkpoint.md"


def run(*words):
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == 0, f"{words}: {done.output}"
    return done


def test_four_commands_lead_to_an_evaluated_and_compared_run(tmp_path, monkeypatch, make_study, checkpoints):
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    layout = LAYOUTS["xrv-nih"]
    monkeypatch.setitem(LAYOUTS, layout.name, replace(layout, options={**layout.options, "size": 64}))  # to be quick
    replace(make_study(n=20, name="films"), name="ward").save(tmp_path / "studies" / "ward.csv")
    block = PAGE.read_text().split("## Four commands")[1].split("```bash\n")[1].split("```")[0]
    commands = [shlex.split(line)[1:] for line in block.strip().splitlines()]
    assert [words[0] for words in commands] == ["weights", "predict", "evaluate", "compare"]
    checkpoints.save_module(tmp_path / commands[0][2], checkpoints.state_dict("densenet121", 1, 18))  # a stand-in
    for words in commands[:3]:
        done = run(*words)
    assert re.search(r"Macro AUROC .* over 2 labels", done.stderr)
    made = Run.open("runs/xrv-nih")
    assert (made.study_name, made.kind, made.thresholds["Mass"]) == ("ward", "imported", 0.5)
    assert json.loads((made.path / "metrics.json").read_text())
    run("fit-head", "ward", "--out", "runs/mine")  # on the embeddings that predict has made
    compared = run(*commands[3])
    assert "xrv-nih: imported head on densenet121, xrv-nih" in " ".join(compared.output.split())
    assert re.search(r"^Mass +\d", compared.stdout, re.M)
    assert not [words for words in commands if "--force" in words]


@pytest.mark.parametrize("name", ["weights.md", "how-to/checkpoint.md"])
def test_the_pages_name_layouts_that_exist(name):
    text = (PAGE.parents[1] / name).read_text()
    for found in re.findall(r"`((?:xrv|chexnet|torchvision|keras)-[\w.-]+)`", text):
        assert found in LAYOUTS, found
    if name == "weights.md":
        assert all(f"`{layout}`" in text for layout in LAYOUTS)
