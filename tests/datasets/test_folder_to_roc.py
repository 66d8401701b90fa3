"""From a folder to ROC curves by the documented commands, on small copies of the layouts of two public sets."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"


def picture(path: Path, bright: bool, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rng.integers(0, 120, (40, 48), dtype=np.uint8) + np.uint8(100 * bright))


def collection(folder: Path) -> None:
    """As https://github.com/ieee8023/covid-chestxray-dataset is: its header, several films of a patient, a CT slice."""
    rng, rows = np.random.default_rng(0), []
    header = "patientid,offset,sex,age,finding,survival,view,modality,date,folder,filename,clinical_notes,\n"
    for patient in range(30):
        for film in range(1 + patient % 2):
            covid = patient % 3 == 0
            finding = "Pneumonia/Viral/COVID-19" if covid else ("No Finding", "Pneumonia/Bacterial")[patient % 2]
            name = f"case-{patient}-day{film}.png"
            picture(folder / "images" / name, covid, rng)
            rows.append(f'{patient},{film},M,40,{finding},,PA,X-ray,"May, 2020",images,{name},"A man, 40",\n')
    rows.append("0,1,M,40,Pneumonia/Viral/COVID-19,,Axial,CT,2020,volumes,slice.nii.gz,,\n")
    (folder / "metadata.csv").write_text(header + "".join(rows))


def classes(folder: Path) -> None:
    """As the sets on Kaggle are: folders of the split, in them folders of the class."""
    rng = np.random.default_rng(1)
    for split, count in {"train": 12, "test": 8}.items():
        for name in ("COVID", "NORMAL", "Viral Pneumonia"):
            for k in range(count):
                picture(folder / split / name / f"{name}-{split}-{k}.jpg", name == "COVID", rng)


@pytest.mark.parametrize(
    ("source", "make", "name"),
    [("covid-chestxray-dataset", collection, "covid"), ("covid-folders", classes, "folders")],
)
def test_folder_to_roc(source, make, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / source)
    block = re.search(rf"cxrfeat study build {source} .*?```", PAGE.read_text(), re.S)[0]
    commands = [line.removeprefix("cxrfeat ") for line in block.splitlines()[:-1]]
    assert [line.split()[0] for line in commands] == ["study", "extract", "fit-head", "roc"]
    for line in commands:
        if line.startswith("extract"):
            line += " --weights random:0 --size 32"  # no weights here, and no time
        done = CliRunner().invoke(cli, shlex.split(line))
        assert done.exit_code == 0, done.output
    about = json.loads(next((tmp_path / "runs").glob("*/head.json")).read_text())
    assert "COVID-19" in str(about["labels"])
    assert next((tmp_path / "runs").rglob("roc.png")).stat().st_size > 1000
    assert "A man" not in (tmp_path / "studies" / f"{name}.csv").read_text()
