"""The page on external validation: what it says to try is run, on the embedded sample as two hospitals."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

from click.testing import CliRunner
from cxrfeat_cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "external-validation.md"


def test_what_the_page_says_to_try(sample_project, tmp_path, monkeypatch, offline):
    shutil.copytree(sample_project / "cache", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "KERAS_HOME"):
        monkeypatch.setenv(name, offline[name])
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text().partition("## Try it")[2], re.S)
    lines = [line.removeprefix("cxrfeat ") for block in blocks for line in block.splitlines()]
    assert lines[0].startswith("extract sample") and "evaluate --run runs/ours --on theirs" in lines[4]
    for line in lines:
        done = CliRunner().invoke(cli, shlex.split(line))
        assert done.exit_code == 0, f"{line}\n{done.output}"
    found = json.loads(next((tmp_path / "runs" / "ours" / "external").glob("*.json")).read_text())
    assert "theirs" in json.dumps(found)
    assert (tmp_path / "studies" / "both.csv").is_file()
