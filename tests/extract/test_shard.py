"""Shares of a study, extracted one by one and joined, are the extraction of the whole."""

import logging
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cxrfeat import cache
from cxrfeat._extract.shard import Shard
from cxrfeat._store import EmbeddingFile
from cxrfeat.errors import EmbeddingFileError, ImageError, StudyError

CLUSTER = Path(__file__).parents[2] / "docs/how-to/cluster.md"


def same_rows(one, other):
    with EmbeddingFile.open(one) as a, EmbeddingFile.open(other) as b:
        ids = a.image_ids
        assert sorted(ids.tolist()) == sorted(b.image_ids.tolist())
        passes = range(a.passes)
        np.testing.assert_array_equal(a.read(ids, passes), b.read(ids, passes))
        np.testing.assert_array_equal(a.image_sha256(ids), b.image_sha256(ids))


def test_every_image_is_in_one_share_and_stays_there_when_the_study_grows(sample_study):
    shares = [Shard(k, 7).take(sample_study).ids.tolist() for k in range(1, 8)]
    assert sorted(i for share in shares for i in share) == sorted(sample_study.ids.tolist())
    assert all(len(share) == len(set(share)) for share in shares)
    half = sample_study.take(np.arange(0, len(sample_study), 2))
    grown = set(half.ids.tolist())
    for k, share in enumerate(shares, start=1):
        assert set(Shard(k, 7).take(half).ids.tolist()) == grown & set(share)
    # The hash is part of the promise: another release takes the same share.
    assert [Shard.parse(f"{k}/3").take(sample_study).ids[0] for k in (1, 2, 3)] == FIRST


FIRST = ["00000003_000.png", "00000075_000.png", "00000050_000.png"]


@pytest.mark.parametrize("wrong", ["0/8", "9/8", "3", "3/8/9", "1/0", "a/b", "-1/8", "1/1000000"])
def test_a_share_that_is_none(wrong, run, make_study):
    with pytest.raises(StudyError, match=f"3/8, not '{re.escape(wrong)}'"):
        run(make_study(4), shard=wrong)


def test_a_share_without_images(sample_study):
    with pytest.raises(StudyError, match=r"has none of its 150 images\. Take fewer shards"):
        for k in range(1, 152):
            Shard(k, 90000).take(sample_study)


def test_shards_joined_are_the_whole(make_study, run, tmp_path, caplog):
    study = make_study(12)
    whole = run(study, passes=1, cache=tmp_path / "whole").path
    done = [run(study, passes=1, shard=f"{k}/3") for k in (1, 2, 3)]
    folder = done[0].path.parent
    assert [one.path.name for one in done] == ["1-of-3.h5", "2-of-3.h5", "3-of-3.h5"]
    assert sum(one.extracted for one in done) == 12 and all(one.max_failures == 1 for one in done)
    assert folder.name == f"{whole.stem}.shards"
    same_rows(cache.merge(folder, tmp_path / "named.h5").path, whole)
    joined = cache.merge(folder)
    assert (joined.path, joined.rows) == (folder.with_name(whole.name), 12)
    same_rows(joined.path, whole)
    caplog.clear()
    again = run(study, passes=1)
    assert (again.path, again.extracted, again.kept) == (joined.path, 0, 12)
    with caplog.at_level(logging.WARNING, "cxrfeat"):
        cache.merge([one.path for one in done[:2]], tmp_path / "two.h5")
    assert caplog.messages[-1] == "1 of 3 shards are not among the files: 3/3."
    with pytest.raises(EmbeddingFileError, match="name the new file with `out`"):
        cache.merge([one.path for one in done])


def test_a_share_takes_renderings_from_the_same_share_with_other_passes(make_study, run, caplog):
    study = make_study(6)
    run(study, shard="1/2")
    with caplog.at_level(logging.INFO, "cxrfeat"):
        run(study, passes=1, shard="1/2")
    assert any("1 of 2 passes" in message and "1-of-2.h5" in message for message in caplog.messages)


def test_lost_images_of_a_share_are_named_by_id(make_study, run):
    study = make_study(10)
    lost = Shard(2, 2).take(study)
    for path in lost.paths():
        path.unlink()
    with pytest.raises(ImageError, match=rf"{len(lost)} of the {len(lost)} images .*\(image {lost.ids[0]}\)"):
        run(study, shard="2/2")


SBATCH = r"""#!/bin/bash
# A stand-in for Slurm: runs the tasks of an array one after another, or what is wrapped; the number of the job is 1.
while [[ $1 == --* ]]; do
  case $1 in --wrap) exec bash -ec "$2" ;; *) shift ;; esac
done
range=$(sed -n 's/^#SBATCH --array=//p' "$1"); first=${range%-*}; last=${range#*-}
for id in $(seq "$first" "$last"); do
  SLURM_ARRAY_TASK_ID=$id SLURM_ARRAY_TASK_COUNT=$((last - first + 1)) bash -e "$1" >&2 || exit 1
done
echo 1
"""
CXRFEAT = """#!/bin/bash
command=$1; shift
[ "$command" = extract ] && set -- "$@" --weights random:0 --size 32
exec "{python}" -m cxrfeat_cli.main "$command" "$@"
"""


@pytest.mark.skipif(os.name == "nt", reason="Slurm runs shell scripts")
def test_the_how_to_script_under_a_stand_in_scheduler(make_study, run, tmp_path, own_cache):
    study = make_study(12, name="nih")
    study.save(tmp_path / "studies/nih.csv")
    whole = run(study, passes=2, cache=tmp_path / "whole").path
    blocks = re.findall(r"```bash\n(.*?)```", CLUSTER.read_text(), re.S)
    (script,) = (block for block in blocks if "--shard" in block and "#SBATCH" in block)
    (submit,) = (block for block in blocks if "sbatch --parsable" in block)
    (tmp_path / "extract.sh").write_text(script.replace("--array=1-8", "--array=1-2"))
    for name, text in {"sbatch": SBATCH, "srun": 'exec "$@"', "cxrfeat": CXRFEAT.format(python=sys.executable)}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text if text.startswith("#!") else f"#!/bin/bash\n{text}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    home = tmp_path / "home"
    home.mkdir()
    (home / "cxrfeat-engines").symlink_to(own_cache)  # the network was exported by `run`
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(home)}
    done = subprocess.run(["bash", "-ec", submit], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (joined,) = (tmp_path / "cache").glob("nih-densenet121-*.h5")
    same_rows(joined, whole)
