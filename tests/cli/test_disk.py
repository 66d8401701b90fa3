"""A disk that takes no byte more: every command says so in a sentence, exits with 2, and leaves what was there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cxrfeat._backbones import open_engine
from cxrfeat._extract import make_recipe

pytestmark = pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")

CODE = """
import json, resource, shlex, sys
from click.testing import CliRunner
from cxrfeat_cli.main import cli
from cxrfeat._backbones.registry import BACKBONES
from short_densenet import SHORT
BACKBONES._loaded[SHORT.name] = SHORT
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # Python ignores SIGXFSZ: a write gives EFBIG
found = {}
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(cli, shlex.split(words))
    found[words] = [done.exit_code, done.stderr]
print(json.dumps(found))
"""

COMMANDS = (
    "study build films/table.csv -o new.csv --path path --patient patient_id",
    "extract films.csv --weights random:0 --size 32 -o new.h5",
    "fit-head films.csv --embeddings films.h5 --out new-run",
    "fit-head films.csv --embeddings films.h5 --out run --overwrite",
    "predict --run run --embeddings films.h5",
    "predict --run run films/film00.png --out new.csv",
    "evaluate --run run --bootstrap 0",
    "roc --run run --bootstrap 0",
    "compare run run --bootstrap 0",
    "gradcam --run run --limit 1",
    "report run --bootstrap 0 -o new.html",
    "sample new-films",
    "demo -o new-demo --weights random:0",
    "cache export films.h5 -o new.npz",
    "cache merge films.h5 films.h5 -o new.h5",
)


@pytest.fixture(scope="module")
def project(trained, own_cache, tmp_path_factory) -> Path:
    open_engine(make_recipe("densenet121", weights="random:0", size=32), engine="openvino")  # which is then kept
    folder = tmp_path_factory.mktemp("disk") / "project"
    shutil.copytree(trained.study.root, folder / "films")
    shutil.copytree(trained.run.path, folder / "run")
    shutil.copy(trained.file, folder / "films.h5")
    trained.study.table.to_csv(folder / "films" / "table.csv", index=False)
    table = trained.study.table.assign(path=[f"films/{name}" for name in trained.study.table["path"]])
    table.to_csv(folder / "films.csv", index=False)
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file that was there before."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_no_command_loses_anything_or_shows_a_traceback(project):
    before = contents(project)
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(COMMANDS)], cwd=project, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "backbones")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    wrong = {w: said for w, (code, said) in told.items() if code != 2 or "Traceback" in said or "unexpected" in said}
    assert wrong == {}
    after = contents(project)
    assert {name: after.get(name) for name in before} == before
    assert not [name for name in after if name not in before and ".part" not in name and after[name]
                and (project / name).stat().st_size]  # fmt: skip
