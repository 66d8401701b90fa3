"""Another installed package adds a backbone, a dataset, a head and a metric; the commands know them like our own.

The package is `tests/plugin/`: installed by pip into a folder of the test's, and used in one process of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrfeat._sample import study as sample_study

COMMANDS = {
    "built": "study build ward --val 0.3 --test 0.3 --json",
    "extracted": "extract ward --backbone tiny --weights random:0 --passes 1",
    "fitted": "fit-head --study ward --head nearest-mean --threshold 0.5",
    "evaluated": "evaluate --bootstrap 50 --json",
    "table": "evaluate --bootstrap 50",
    "maps": "gradcam --limit 2",
    "report": "report --images 1 --bootstrap 50 -o report.html",
    "extract help": "extract --help",
    "head help": "fit-head --help",
    "study help": "study build --help",
}
RUN_ALL = """
import contextlib, io, json, sys
from cxrfeat_cli.main import cli

printed = {}
for name, words in json.loads(sys.argv[1]).items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(words.split(), prog_name="cxrfeat")
        except SystemExit as end:
            code = end.code
    if code:
        sys.exit(f"{words}: {err.getvalue()}")
    printed[name] = out.getvalue()
print(json.dumps(printed))
"""


@pytest.fixture(scope="module")
def used(tmp_path_factory, own_cache) -> tuple[Path, dict[str, str]]:
    """The folder worked in, and what each command printed."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(Path(__file__).parent / "plugin", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    pip += ["--target", str(folder / "installed"), str(folder / "source")]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _ward(folder / "ward")
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(COMMANDS)], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(folder / "installed"), "HTTPS_PROXY": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "TensorFlow says something of itself past Python's stderr"
    return folder, json.loads(done.stdout.splitlines()[-1])


def _ward(folder: Path) -> None:
    """Eighty films of the sample, with reports."""
    study = sample_study()
    (folder / "films").mkdir(parents=True)
    rows = []
    for row, path in zip(study.table[:80].itertuples(), study.paths(), strict=False):
        shutil.copy(path, folder / "films")
        found = [label for label in ("Effusion", "Infiltration") if getattr(row, label) == 1]
        rows.append(
            {"film": row.image_id, "patient": row.patient_id, "ward": "B", "report": ", ".join(found) or "clear"}
        )
    pd.DataFrame(rows).to_csv(folder / "ward.tsv", sep="\t", index=False)


def test_its_dataset_is_recognised_and_keeps_its_metadata(used):
    folder, printed = used
    assert json.loads(printed["built"])["images"]["all"] == 80
    table = pd.read_csv(folder / "studies" / "ward.csv")
    assert set(table["ward"]) == {"B"}
    assert table["Effusion"].sum() == sample_study().table["Effusion"][:80].sum()


def test_its_backbone_embeds(used):
    from cxrfeat import EmbeddingFile

    (path,) = (used[0] / "cache").glob("ward-tiny-*.h5")
    with EmbeddingFile.open(path) as file:
        assert file.recipe.backbone == "tiny" and file.recipe.size == 96
        assert file.read(passes=(0, 1)).shape == (2, 80, 32)


def test_its_head_is_fitted_and_explained(used):
    (run,) = (used[0] / "runs").iterdir()
    assert json.loads((run / "head.json").read_text())["kind"] == "nearest-mean"
    (panel, *_) = sorted((run / "figures" / "gradcam").glob("*.npz"))
    maps = np.load(panel)["maps"]
    assert maps.shape[-2:] == (3, 3) and np.isfinite(maps).all()


def test_its_metric_is_computed_and_shown_beside_ours(used):
    printed = used[1]
    rows = {row["label"]: row for row in json.loads(printed["evaluated"])["labels"]}
    for row in rows.values():
        assert row["youden"] == pytest.approx(row["sensitivity"] + row["specificity"] - 1)
        assert len(row["youden_bootstrap"]) == 2  # empty here: an interval needs ten positive patients
    assert re.search(r"^label .* J ", printed["table"], re.M)


def test_help_texts_list_them(used):
    printed = used[1]
    assert "tiny" in printed["extract help"]
    assert "nearest-mean" in printed["head help"]
    assert "ward" in printed["study help"]
