"""`cxrfeat predict` for studies and for single images."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from cxrfeat_cli.main import cli

import cxrfeat
from cxrfeat import _sample as sample
from cxrfeat._heads import fit_head
from cxrfeat._images.decode import read_grey
from cxrfeat._predict import shortest_names
from cxrfeat._recipe import Recipe
from cxrfeat._store import Writer
from cxrfeat.errors import ImageError


def call(*args):
    return CliRunner().invoke(cli, ["predict", *map(str, args)])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    study, rng = sample.study(), np.random.default_rng(0)
    x = np.abs(rng.standard_normal((1, len(study), 16))).astype(np.float32)
    for name, size in (("e", 224), ("other", 320)):
        recipe = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", size)
        with Writer.open(folder / f"{name}.h5", recipe, 16, {}) as writer:
            writer.append(study.ids.tolist(), np.zeros((len(study), 32), np.uint8), x)
            writer.publish(study.ids.tolist())
    fit_head(study, folder / "e.h5", out=folder / "run", weighting="paper")
    return folder


def test_the_runs_own_study_gives_the_predictions_it_has(workspace):
    before = (workspace / "run" / "predictions.csv").read_bytes()
    (workspace / "run" / "predictions.csv").unlink()
    result = call("--run", workspace / "run", "--embeddings", workspace / "e.h5")
    assert result.exit_code == 0, result.output
    assert (workspace / "run" / "predictions.csv").read_bytes() == before
    assert "RANDOM" in result.stderr


def test_another_study_goes_to_a_file_of_its_own(workspace, tmp_path):
    part = sample.study().split("test")
    part.save(tmp_path / "part.csv")
    args = ("--run", workspace / "run", "--study", tmp_path / "part.csv", "--embeddings", workspace / "e.h5")
    result = call(*args, "--json")
    assert json.loads(result.stdout)["images"] == 57
    assert len(pd.read_csv(workspace / "run" / "predictions-part.csv")) == 57


def test_a_study_that_is_named_is_one_though_a_folder_has_its_name(workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample.study().split("test").save("studies/ward.csv")
    (tmp_path / "ward").mkdir()
    args = ("--run", workspace / "run", "--study", "ward", "--embeddings", workspace / "e.h5", "--json")
    assert json.loads(call(*args).stdout)["images"] == 57


def test_single_images_are_predicted_as_they_were_within_their_study(trained, tmp_path):
    """The network is run again, from the image file on; what the embedding file gave is the independent answer."""
    films = trained.study.paths()[:2]
    result = call(*films, "--run", trained.run.path, "--out", tmp_path / "two.csv", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["predictions"]
    expected = trained.run.predictions().loc[[path.name for path in films]]
    assert [row["image"] for row in found[::3]] == [str(path) for path in films]
    assert [row["probability"] for row in found] == pytest.approx(expected.to_numpy().ravel().tolist(), abs=1e-5)
    called = [row["probability"] >= trained.run.thresholds[row["label"]] for row in found]
    assert [row["called"] for row in found] == called
    written = pd.read_csv(tmp_path / "two.csv")
    assert list(written.columns) == ["image", "label", "probability", "threshold", "called"]
    np.testing.assert_allclose(written["probability"], expected.to_numpy().ravel(), atol=1e-5)


@pytest.fixture
def ward(trained, tmp_path):
    """Films of two patients under the same name, one that is cut off, and two files that are no films."""
    for folder, film in zip(("a", "b"), trained.study.paths()[:2], strict=True):
        (tmp_path / "ward" / folder).mkdir(parents=True)
        shutil.copy(film, tmp_path / "ward" / folder / "1.png")
    (tmp_path / "ward" / "a" / "cut.png").write_bytes(trained.study.paths()[2].read_bytes()[:90])
    (tmp_path / "ward" / "notes.txt").write_text("no film")
    (tmp_path / "ward" / ".1.png").write_bytes(b"a resource fork")
    return tmp_path / "ward"


def test_images_of_the_same_name_are_two_images(trained, ward, tmp_path):
    films = [ward / folder / "1.png" for folder in ("a", "b")]
    result = call(*films, films[0], "--run", trained.run.path)
    assert result.exit_code == 0, result.output
    assert [line for line in result.stdout.splitlines() if ".png" in line] == ["a/1.png", "b/1.png"]
    result = call(*films, "--run", trained.run.path, "--out", tmp_path / "two.csv")
    assert result.stdout.strip() == str(tmp_path / "two.csv"), "with --out the path is all there is on stdout"
    assert pd.read_csv(tmp_path / "two.csv")["image"].nunique() == 2


def test_of_a_folder_every_film_is_predicted_and_one_that_is_damaged_is_listed(trained, ward):
    result = call(ward, "--run", trained.run.path, "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert {row["image"] for row in found["predictions"]} == {str(ward / "a" / "1.png"), str(ward / "b" / "1.png")}
    assert list(found["failed"]) == [str(ward / "a" / "cut.png")]
    assert "truncated" in result.stderr and "1 of 3 images could not be used" in result.stderr


def test_many_images_get_a_line_each(trained):
    films = trained.study.paths()[:6]
    result = call(*films, "--run", trained.run.path)
    expected = trained.run.predictions().loc[[film.name for film in films]]
    lines = dict(zip(expected.index, result.stdout.splitlines()[2:], strict=False))
    for film, line in lines.items():
        called = [label for label in expected.columns if expected.loc[film, label] >= trained.run.thresholds[label]]
        assert line.startswith(film)
        assert {label for label in expected.columns if label in line} == set(called)


def test_a_film_whose_name_is_not_utf8_is_predicted(trained, tmp_path):
    film = tmp_path / os.fsdecode(b"film\xff.png")
    shutil.copy(trained.study.paths()[0], film)
    result = call(film, "--run", trained.run.path, "--out", tmp_path / "one.csv", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["predictions"][0]["image"] == str(film)
    assert b"film\xff.png" in (tmp_path / "one.csv").read_bytes()


def test_in_python_arrays_files_and_studies_are_predicted_alike(trained):
    films = trained.study.paths()[:3]
    wide = cxrfeat.predict(trained.run, films)
    pictures = cxrfeat.predict(trained.run, [read_grey(film) for film in films])
    study = cxrfeat.predict(trained.run, trained.study, embeddings=trained.file).set_index("image_id")
    labels = list(trained.run.labels)
    np.testing.assert_array_equal(pictures[labels], wide[labels])
    np.testing.assert_allclose(wide[labels], study.loc[[film.name for film in films], labels], atol=1e-6)
    with pytest.raises(ImageError, match="none of the 1 images"):
        cxrfeat.predict(trained.run, np.zeros((2, 2), np.uint8)[None])


def test_names_are_as_short_as_can_be_told_apart():
    paths = ["/x/a/1.png", "/x/b/1.png", "/y/b/1.png", "2.png"]
    assert list(shortest_names(paths).values()) == ["a/1.png", "x/b/1.png", "y/b/1.png", "2.png"]


def test_another_recipe_is_a_sentence_and_exit_2(workspace):
    result = call("--run", workspace / "run", "--embeddings", workspace / "other.h5")
    assert result.exit_code == 2
    assert "size: 224 against 320" in result.stderr


def test_no_run_is_a_sentence_and_exit_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call()
    assert result.exit_code == 2
    assert "fit-head" in result.stderr


def test_predictions_replace_no_input_and_no_file_of_another_kind(workspace, tmp_path):
    embeddings = shutil.copy(workspace / "e.h5", tmp_path / "e.h5")
    part = sample.study().split("test").save(tmp_path / "part.csv")
    args = ("--run", workspace / "run", "--study", part, "--embeddings", embeddings)
    for out, more, words in (
        (embeddings, (), "is an input"), (embeddings, ("--overwrite",), "is an input"), (part, (), "is an input"),
        (shutil.copy(part, tmp_path / "other.csv"), (), "is a file of another kind"),
    ):  # fmt: skip
        before = out.read_bytes()
        result = call(*args, "--out", out, *more)
        assert result.exit_code == 2 and words in result.stderr and out.read_bytes() == before, out
    assert call(*args, "--out", tmp_path / "other.csv", "--overwrite").exit_code == 0
    assert call(*args, "--out", tmp_path / "other.csv").exit_code == 0, "earlier predictions are replaced"


def test_ids_like_formulas_are_text_in_a_spreadsheet_and_ids_for_us(tmp_path):
    study = sample.study()
    ids = ["=1+1", *study.ids[1:]]
    hostile = cxrfeat.Study(study.table.assign(image_id=ids), study.labels, "hostile", study.root)
    x = np.random.default_rng(0).random((1, len(study), 16)).astype(np.float32)
    recipe = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 224)
    with Writer.open(tmp_path / "e.h5", recipe, 16, {}) as writer:
        writer.append(ids, np.zeros((len(study), 32), np.uint8), x)
        writer.publish(ids)
    run = fit_head(hostile, tmp_path / "e.h5", out=tmp_path / "run")
    assert "\n'=1+1," in (run.path / "predictions.csv").read_text()
    assert run.predictions().index.tolist() == ids
