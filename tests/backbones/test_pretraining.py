"""Which evaluated images a backbone has seen: by lists of ids and hashes, and by datasets and their published parts."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

import cxrfeat as cxr
from cxrfeat._backbones import library, pretraining
from cxrfeat._backbones.library import Card
from cxrfeat._recipe import Recipe
from cxrfeat.errors import WeightsError

RECIPE = Recipe("densenet121", "mine", "0" * 64, "relu", "torch", 224)


@pytest.fixture(autouse=True)
def own_library(tmp_path, monkeypatch):
    monkeypatch.setenv("CXRFEAT_WEIGHTS", str(tmp_path / "library"))


def keep(seen, listed="", **more):
    """A card of the recipe's weights that says what they have seen."""
    contents = {pretraining.LIST: listed.encode()} if listed else {"arrays.safetensors": b"x"}
    library.save(Card("mine", "densenet121", RECIPE.weights_sha256, pretraining=seen, **more), contents)


def published(study, dataset="a ChestX-ray14 release"):
    return dataclasses.replace(study, provenance={"dataset": dataset, "splits": {"origin": "as published"}})


def notes(study, split="test"):
    return pretraining.notes([RECIPE], study.split(split), split)


@pytest.mark.parametrize(
    ("part", "as_published", "split", "verb"),
    [
        ("train", True, "test", None),  # the one case in which nothing was seen
        ("train", True, "train", "were seen"),
        ("test", True, "test", "were seen"),
        ("train", False, "test", "may have been seen"),
        ("some", True, "test", "may have been seen"),
        ("all", False, "test", "were seen"),
    ],
)
def test_a_part_of_a_dataset(sample_study, part, as_published, split, verb):
    keep({"ChestX-ray14": part}, trained_on="NIH films")
    study = published(sample_study) if as_published else sample_study
    said = notes(study, split)
    if verb is None:
        assert said == []
        return
    count = len(study.split(split))
    assert len(said) == 1 and "trained on NIH films" in said[0]
    assert f"{count:,} of the {count:,} images are of ChestX-ray14 and {verb} by mine" in said[0]


def test_films_of_another_dataset_are_not_concerned(make_study):
    keep({"ChestX-ray14": "all"})
    assert pretraining.notes([RECIPE], make_study(5), "test") == []


def test_a_list_of_ids_and_of_hashes(sample_study):
    test = sample_study.split("test")
    paths = [path.read_bytes() for path in map(Path, test.paths())]
    lines = [test.ids[0], test.ids[1].removesuffix(".png"), hashlib.sha256(paths[2]).hexdigest(), "99999999_999.png"]
    keep({"images": len(lines)}, "\n".join(lines) + "\n")
    assert [said.split(" in ")[0] for said in notes(sample_study)] == [f"3 of the {len(test)} images were seen by mine"]


def test_what_nobody_has_said_and_random_weights_give_no_note(sample_study):
    assert notes(sample_study) == []
    keep({})
    assert notes(sample_study) == []
    other = dataclasses.replace(RECIPE, weights_sha256="1" * 64, backbone="someone-elses")
    assert pretraining.notes([other], sample_study, "test") == []


def test_a_statement_is_read_from_words_and_files(tmp_path):
    (tmp_path / "a.txt").write_text("00000001_000.png\n\n00000002_000.png\n00000001_000.png\n")
    found, text = pretraining.statement(["ChestX-ray14=train", tmp_path / "a.txt"])
    assert found == {"ChestX-ray14": "train", "images": 2} and text == "00000001_000.png\n00000002_000.png\n"
    assert pretraining.statement(["ChestX-ray14"])[0] == {"ChestX-ray14": "some"}
    for wrong in ("ChestX-ray14=half", "no such file.txt"):
        with pytest.raises(WeightsError, match="neither a file nor DATASET"):
            pretraining.statement([wrong])


def test_evaluation_comparison_and_its_files_say_it(make_run):
    ids = "".join(f"{i:05d}.png\n" for i in range(300))
    keep({"images": 300}, ids)
    runs = [make_run(name, weights="mine") for name in ("a", "b")]
    found = cxr.evaluate(runs[0], replicates=0)
    (said,) = [warning.message for warning in found.warnings if warning.kind == "pretraining"]
    assert "were seen by mine in pretraining" in said and said in str(found.render("markdown"))
    assert said in cxr.compare(*runs, replicates=0).problems()
