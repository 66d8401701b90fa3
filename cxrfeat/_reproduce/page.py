"""What a reproduction writes: figures, tables as CSV, and the page with them beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat import _files as files
from cxrfeat._images import choices, prepare
from cxrfeat._images.decode import read_grey
from cxrfeat._recipe import Recipe
from cxrfeat._report import bars, curves, html
from cxrfeat._report.html import Table
from cxrfeat._reproduce import paper
from cxrfeat._reproduce.reproduction import Reproduction
from cxrfeat._summary import summarise

Row = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure of the page: its number in the paper, what it shows, and its file, relative to the page."""

    heading: str
    alt: str
    file: str


TITLES = {
    "deviations": "What the paper says, what its figures imply, what is done here",
    "accuracy-training": "Table 1: training accuracy",
    "accuracy-test": "Table 2: test accuracy",
    "accuracy-differences": "Test accuracy against DenseNet121 without augmentation",
    "auroc-paper": "Every AUROC that the paper's text speaks of",
    "sampling-error": "95 % intervals of the paper's own numbers, by the number of test images",
    "auroc": "AUROC on the test images",
    "weights": "Class weights of the loss; to the letter of the paper's formula, the two are swapped",
}


def write(done: Reproduction) -> Path:
    """Draw everything, write the tables as CSV, and the page."""
    first, second = _films(done)
    context = {
        "title": f"The reference paper on study {done.study.name}",
        "random": done.random,
        "done": done,
        "citation": paper.CITATION,
        "ways": paper.WAYS,
        "paper": paper,
        "summary": summarise(done.study),
        "sentences": done.account,
        "films": [first, second],
        "losses": [_losses(done, result) for result in done.results],
        "rocs": [_roc(done, result) for result in done.results],
        "maps": _maps(done),
        "tables": {name: _table(done, name, rows) for name, rows in done.tables.items()},
        "tests": _tests(done),
        "frequencies": _frequencies(done),
    }
    return files.write_atomically(done.page, html.render("paper.html.j2", **context))


def _films(done: Reproduction) -> tuple[Figure, Figure]:
    """Figures 1 and 2: the first image, before and after augmentation, as the paper's way renders it."""
    recipe = done.of(paper.WAYS[0])[-1].run.recipes[0]
    image_id, path = str(done.study.ids[0]), done.study.paths()[0]
    pictures = _renderings(recipe, image_id, path)
    names = ["before", *(f"pass {k}" for k in range(1, len(pictures)))]
    caption = f"Image {image_id} of study {done.study.name}, {recipe.size} px."
    one, two = _figure_path(done, "figure-1"), _figure_path(done, "figure-2")
    bars.side_by_side(pictures[:1], ["as the network sees it"], "The first image", caption).save(one)
    what = f"{caption} Policy: {(recipe.augmentation or {}).get('name', 'none')}, seed {recipe.seed}."
    bars.side_by_side(pictures, names, "Before and after augmentation", what).save(two)
    return (
        _figure(done, "Figure 1: the first image", f"Chest X-ray {image_id}", one),
        _figure(done, "Figure 2: with augmentation", f"The same film, and {len(names) - 1} augmented", two),
    )


def _renderings(recipe: Recipe, image_id: str, path: str | Path) -> list[npt.NDArray[np.uint8]]:
    """Pass 0 and every augmented pass of one image, uint8 (size, size) each, as extraction renders them."""
    policy = choices.policy_of(recipe.augmentation) if recipe.augmentation else None
    matrices = [prepare.matrix(policy, recipe.seed, image_id, k) for k in range(1, recipe.passes + 1)] if policy else []
    grey = read_grey(path)
    return list(prepare.passes(grey, recipe.size, matrices, policy, recipe.interpolation))


def _losses(done: Reproduction, result: Any) -> Figure:
    path = _figure_path(done, f"figure-3-{result.key}")
    heading = f"Figure 3: {result.arm.title}, {result.way.title.lower()}"
    curves.loss(result.run, heading).save(path)
    epochs = result.run.notes.get("epochs_run", "?")
    return _figure(done, heading, f"Training and validation loss over {epochs} epochs", path)


def _roc(done: Reproduction, result: Any) -> Figure:
    path = _figure_path(done, f"figure-{result.arm.figure}-{result.key}")
    heading = f"Figure {result.arm.figure}: {result.arm.title}, {result.way.title.lower()}"
    result.test.curves("roc").plot(title=heading).save(path)
    macro = result.test.macro
    return _figure(
        done, heading, f"ROC curves, macro AUROC {macro['auroc']:.3f} over {len(macro['over'])} labels", path
    )


def _maps(done: Reproduction) -> list[Figure]:
    """Figures 7 and 8: the panels of DenseNet121 with augmentation, in every way."""
    found = []
    for result in done.results:
        for path in sorted(done.maps_folder(result).glob("*.png")):
            heading = f"Figures 7 and 8: {result.arm.title}, {result.way.title.lower()}"
            found.append(_figure(done, heading, f"Image {path.stem} and the evidence for its foremost labels", path))
    return found


def _frequencies(done: Reproduction) -> Figure:
    path = _figure_path(done, "class-frequencies")
    bars.class_frequencies(done.study).save(path)
    return _figure(done, "Class frequencies", "Positive images of each label and split", path)


def _tests(done: Reproduction) -> list[tuple[Table, list[str], Figure]]:
    """Each comparison: its table, its conclusions, its forest plot."""
    found = []
    titles = {way.key: f"The arms, {way.title.lower()}" for way in paper.WAYS}
    titles |= {arm.key: f"The ways, {arm.title}" for arm in paper.ARMS}
    for key, comparison in {**done.between_arms, **done.between_ways}.items():
        path = _figure_path(done, f"tests-{key}")
        heading = f"{titles[key]}: differences to {comparison.baseline.name}"
        comparison.save(path)
        (rows,) = comparison.tables().values()
        table = html.table(heading, rows, comparison.caption())
        figure = _figure(done, heading, "Differences in AUROC with intervals over patients", path)
        found.append((table, comparison.conclusions, figure))
    return found


def _table(done: Reproduction, name: str, rows: Sequence[Row]) -> Table:
    """Write a table as CSV, with whether the weights were random in every row, and return it for the page."""
    text = pd.DataFrame(list(rows)).assign(random_weights=done.random).to_csv(index=False, lineterminator="\n")
    files.write_atomically(done.folder / "tables" / f"{name}.csv", text)
    return html.table(TITLES[name], rows, f"study {done.study.name}; tables/{name}.csv")


def _figure_path(done: Reproduction, name: str) -> Path:
    return done.folder / "figures" / f"{name}.png"


def _figure(done: Reproduction, heading: str, alt: str, path: Path) -> Figure:
    return Figure(heading, alt, path.relative_to(done.folder).as_posix())
