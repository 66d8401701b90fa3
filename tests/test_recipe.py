"""A recipe's identity never changes: its text and hash are those that earlier releases wrote into files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cxrfeat._recipe import Recipe
from cxrfeat.errors import RecipeError

FROZEN, SECOND = (
    json.loads((Path(__file__).parent / "data" / f"recipes-v{version}.json").read_text()) for version in (1, 2)
)


@pytest.mark.parametrize("frozen", FROZEN + SECOND, ids=lambda f: f["sha256"][:8])
def test_text_and_hash_of_every_version_are_for_ever(frozen):
    recipe = Recipe.from_json(frozen["text"])
    assert recipe.to_json() == frozen["text"]
    assert recipe.sha256 == frozen["sha256"]
    assert recipe.pass0.sha256 == frozen["pass0_sha256"]
    assert {recipe} == {Recipe.from_json(frozen["text"])}, "equal recipes are one key"


def test_a_name_of_weights_is_no_part_of_the_identity_where_their_values_are():
    one = Recipe("densenet121", "theirs", "a" * 64, "relu", "torch", 224, weights_by="values")
    assert (one == replace(one, weights="mine"), one.difference(replace(one, weights="mine"))) == (True, "")
    assert len({one, replace(one, weights="mine")}) == 1
    assert one != replace(one, weights_by="file")
    assert one != replace(one, weights_sha256="b" * 64)
    by_file = replace(one, weights_by="file")
    assert by_file != replace(by_file, weights="mine")
    with pytest.raises(RecipeError, match="`weights_by` is `file` or `values`"):
        replace(one, weights_by="name")


@dataclass(frozen=True, repr=False)
class Later(Recipe):
    """What a release with a further field would declare."""

    fit: str = field(default="stretch", metadata={"since": 3})


def test_a_field_of_a_later_version_changes_no_identity_that_version_1_can_express():
    first = FROZEN[1]
    assert Later.from_json(first["text"]).sha256 == first["sha256"]
    other = Later(**{**json.loads(first["text"]), "fit": "crop"})
    assert json.loads(other.to_json())["version"] == 3
    assert Later.from_json(other.to_json()) == other
    with pytest.raises(RecipeError, match="version 3; this cxrfeat reads 1 to 2"):
        Recipe.from_json(other.to_json())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size": "224"}, "field 'size' is '224', not of type int"),
        ({"size": True}, "not of type int"),
        ({"weights": None}, "not of type str"),
        ({"augmentation": []}, "'augmentation'"),
        ({"backbone": ...}, "no field 'backbone'"),
        ({"fit": "crop"}, "'fit' that version 1 does not know"),
        ({"version": "1"}, "version '1'"),
        ({"passes": -1}, "passes >= 0"),
    ],
)
def test_a_damaged_recipe_is_a_sentence(change, sentence):
    content = {k: v for k, v in {**json.loads(FROZEN[0]["text"]), **change}.items() if v is not ...}
    with pytest.raises(RecipeError, match=sentence):
        Recipe.from_json(json.dumps(content))


def test_version_1_knows_no_geometry_and_means_that_a_film_is_stretched():
    recipe = Recipe.from_json(FROZEN[0]["text"])
    later = (recipe.geometry, recipe.resize, recipe.crop_borders, recipe.voi)
    assert later == ("stretch", 0, False, "file")
    with pytest.raises(RecipeError, match="'geometry' that version 1 does not know"):
        Recipe.from_json(json.dumps({**json.loads(FROZEN[0]["text"]), "geometry": "crop"}))


@pytest.mark.parametrize(("geometry", "resize"), [("stretch", 256), ("crop", 200), ("pad", 256)])
def test_a_resize_that_does_not_fit_is_refused(geometry, resize):
    with pytest.raises(RecipeError, match=f"`resize` {resize} does not fit"):
        replace(Recipe.from_json(FROZEN[0]["text"]), geometry=geometry, resize=resize)


def test_a_deeply_nested_recipe_is_a_sentence():
    with pytest.raises(RecipeError, match="not a recipe"):
        Recipe.from_json('{"augmentation":' + "[" * 100_000 + "]" * 100_000 + "}")


def test_it_prints_well():
    recipe = Recipe.from_json(FROZEN[1]["text"])
    assert repr(recipe) == "<Recipe 639869c2: resnet50, RANDOM weights (random:7), 400 px, pass 0 + 3 augmented>"
    assert "random:7" in recipe._repr_html_()


def test_precision_is_part_of_the_recipe_and_older_recipes_are_float32():
    recipe = Recipe("densenet121", "random:0", "a" * 64, "relu", "torch", 224)
    reduced = replace(recipe, precision="bfloat16")
    assert reduced != recipe
    assert "precision" not in recipe.to_json()
    assert Recipe.from_json(reduced.to_json()) == reduced
    assert "bfloat16" in reduced.describe()
    with pytest.raises(RecipeError, match="float32, bfloat16, float16"):
        replace(recipe, precision="half")
