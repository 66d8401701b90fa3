"""Which images a backbone has seen in pretraining, as the card of its weights or its entry says.

Such a statement is a mapping. A dataset's name says which part of it was seen: `train` or `test`, as published, `all`,
or `some`, where nobody has said which. `images` counts the lines of `seen.txt` beside the card: an image id or the
SHA-256 of an image file on each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cxrfeat._backbones import library, registry
from cxrfeat._datasets.dataset import DATASETS
from cxrfeat._recipe import Recipe
from cxrfeat._remote import sha256
from cxrfeat._study import Study
from cxrfeat.errors import CxrfeatError, WeightsError

PARTS = ("train", "test", "all", "some")
LIST = "seen.txt"
"""File beside a card."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_LINES = 10_000_000


def statement(seen: Sequence[str | Path]) -> tuple[dict[str, Any], str]:
    """Read what a user says was seen: `DATASET`, `DATASET=PART`, or files of ids and hashes; the lists, as one text."""
    found: dict[str, Any] = {}
    lines: dict[str, None] = {}
    for one in map(str, seen):
        if Path(one).is_file():
            lines |= dict.fromkeys(_lines(Path(one)))
            continue
        name, _, part = one.partition("=")
        known = _datasets()
        if name not in known or (part or "some") not in PARTS:
            raise WeightsError(
                f"`seen` {one!r} is neither a file nor DATASET or DATASET=PART, with the datasets {', '.join(known)} "
                f"and the parts {', '.join(PARTS)}."
            )
        found[name] = part or "some"
    if lines:
        found["images"] = len(lines)
    return found, "".join(f"{line}\n" for line in lines)


def trained_on(recipe: Recipe) -> str:
    """What the weights of a recipe were trained on, as their card says."""
    if recipe.random:
        return "nothing: random weights"
    card = _stated(recipe)[1]
    return (card.trained_on if card else "ImageNet" if recipe.weights == "imagenet" else "") or "not stated"


def notes(recipes: Iterable[Recipe], study: Study, split: str) -> list[str]:
    """Say for each backbone how many of a study's images it has seen, or may have seen; nothing where it has not."""
    said = []
    for recipe in recipes:
        stated, card = _stated(recipe)
        name = card.name if card else f"{recipe.backbone} ({recipe.weights})"
        trained = f" It was trained on {card.trained_on}." if card and card.trained_on else ""
        if stated.get("images") and card:
            count = _listed(card, study)
            if count:
                said.append(
                    f"{count:,} of the {len(study):,} images were seen by {name} in pretraining, by its list of "
                    f"{stated['images']:,}: the numbers flatter it."
                )
        for dataset, part in stated.items():
            if dataset == "images" or (ids := _datasets().get(dataset)) is None:
                continue
            count = sum(bool(ids.fullmatch(image_id)) for image_id in study.ids)
            certain, possible = _seen(part, study, dataset, split)
            if count and (certain or possible):
                verb = "were seen" if certain else "may have been seen"
                said.append(
                    f"{count:,} of the {len(study):,} images are of {dataset} and {verb} by {name} in pretraining: the "
                    f"numbers {'flatter' if certain else 'may flatter'} it.{trained}"
                )
    return said


def _stated(recipe: Recipe) -> tuple[Mapping[str, Any], library.Card | None]:
    for values in filter(None, (recipe.weights_sha256, recipe.network_sha256)):
        if (card := library.by_values(recipe.backbone, values, recipe.weights)) is not None:
            return card.pretraining, card
    try:
        return (registry.get(recipe.backbone).pretraining if recipe.weights == "imagenet" else {}), None
    except CxrfeatError:  # embeddings of another tool
        return {}, None


def _datasets() -> dict[str, re.Pattern[str]]:
    """How the image ids of a dataset look, by its name, for those that declare it."""
    return {entry.name: re.compile(entry.image_ids) for entry in DATASETS if entry.name and entry.image_ids}


def _seen(part: str, study: Study, dataset: str, split: str) -> tuple[bool, bool]:
    """Whether the images of a split certainly were seen, and whether they may have been."""
    if part in ("all", "some"):
        return part == "all", True
    about = study.provenance
    published = str(dict(about.get("splits") or {}).get("origin", "")).startswith("as published")
    if not published or dataset not in str(about.get("dataset", "")):
        return False, True
    same = part == ("test" if split == "test" else "train")
    return same, same


def _listed(card: library.Card, study: Study) -> int:
    """How many of a study's images a card's list has, by id without its ending, or by the hash of the file."""
    lines = library.file_of(card, LIST).read_text(encoding="utf-8").split("\n")
    ids = {_stem(line) for line in lines if line}
    found = {image_id for image_id in study.ids if _stem(image_id) in ids}
    if hashes := {line for line in lines if _SHA256.fullmatch(line)}:
        paths = zip(study.ids, study.paths(), strict=True)
        found |= {i for i, path in paths if i not in found and path.is_file() and sha256(path) in hashes}
    return len(found)


def _stem(image_id: str) -> str:
    return re.sub(r"\.(png|jpe?g|tiff?|dcm|dicom)$", "", image_id.strip(), flags=re.IGNORECASE)


def _lines(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} is not a list of image ids: it is no text.") from error
    if not 0 < len(found) <= _MOST_LINES:
        raise WeightsError(f"{path} has {len(found):,} lines; a list has one image id or SHA-256 on each.")
    return found
