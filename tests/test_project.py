"""What is taken when nothing is named: by content, and never another study's embeddings because a name begins alike."""

from __future__ import annotations

import os

import numpy as np
import pytest

from cxrfeat import _project as project
from cxrfeat._recipe import Recipe
from cxrfeat._store import Writer
from cxrfeat.errors import NotFoundError

RECIPE = Recipe("densenet121", "random:0", "0" * 64, "relu", "torch", 224)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def embed(name, ids, age, recipe=RECIPE):
    """An embedding file under cache/, so many seconds old."""
    path = project.CACHE / name
    with Writer.open(path, recipe, 4, {}) as writer:
        writer.append(list(ids), np.zeros((len(ids), 32), np.uint8), np.zeros((1, len(ids), 4), np.float32))
        writer.publish(list(ids))
    os.utime(path, (10**9 - age, 10**9 - age))
    return path


def default(study, recipe=RECIPE):
    return f"{study}-{recipe.backbone}-{recipe.sha256[:8]}.h5"


def test_a_study_whose_name_begins_alike_is_another_study(make_study):
    study = make_study(8, name="nih")
    whole = embed(default("nih"), study.ids, age=100)
    embed(default("nih-frontal"), study.ids[:3], age=1)
    assert project.embedding_path(None, study) == whole


def test_embeddings_of_a_larger_study_serve_where_there_are_none_of_its_own(make_study):
    study = make_study(8, name="nih")
    whole = embed("mine.h5", study.ids, age=1)
    assert project.embedding_path(None, study.take(range(3))) == whole
    with pytest.raises(NotFoundError, match="cxrfeat extract"):
        project.embedding_path(None, make_study(12, name="ward"))


def test_the_newest_of_a_recipe_is_taken_where_a_recipe_is_asked_for(make_study):
    study, other = make_study(4), Recipe("resnet50", "random:0", "0" * 64, "out", "caffe", 224)
    mine = embed(default("tiny"), study.ids, age=100)
    newest = embed(default("tiny", other), study.ids, age=1, recipe=other)
    assert project.embedding_path(None, study) == newest
    assert project.embedding_path(None, study, RECIPE) == mine


def test_a_damaged_embedding_file_is_passed_over(make_study):
    study = make_study(4)
    mine = embed(default("tiny"), study.ids, age=100)
    (project.CACHE / "broken.h5").write_bytes(b"x")
    assert project.embedding_path(None, study) == mine


def test_the_study_of_the_newest_embeddings(make_study):
    for name, age in (("ward", 100), ("a-b-c", 1)):
        make_study(4, name=name).save(project.STUDIES / f"{name}.csv")
        embed(default(name), ["x"], age)
    embed(default("gone"), ["x"], age=0)
    assert project.study_path(embedded=True) == project.STUDIES / "a-b-c.csv"
    with pytest.raises(NotFoundError, match=r"several studies, name one: a-b-c, ward"):
        project.study_path()
