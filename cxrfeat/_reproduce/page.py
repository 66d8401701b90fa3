"""What a reproduction writes: figures, tables as CSV, and the page with them beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxrfeat import _files as files
from cxrfeat._images.decode import read_bytes
from cxrfeat._images.prepare import squares
from cxrfeat._report import bars, curves, html
from cxrfeat._report.html import Table
from cxrfeat._reproduce import paper
from cxrfeat._reproduce.experiment import Reproduction, Result
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
    context = {
        "title": f"The reference paper on study {done.study.name}",
        "random": done.random,
        "done": done,
        "citation": paper.CITATION,
        "ways": paper.WAYS,
        "paper": paper,
        "summary": summarise(done.study),
        "sentences": done.account,
        "films": _films(done),
        "losses": [_loss(done, result) for result in done.results],
        "rocs": [_roc(done, result) for result in done.results],
        "maps": [
            Figure(f"Figures 7 and 8: {_title(result)}", f"Image {path.stem} and its evidence", _place(done, path))
            for result in done.results
            for path in sorted(done.maps_folder(result).glob("*.png"))
        ],
        "tables": {name: _table(done, name, rows) for name, rows in done.tables.items()},
        "tests": _tests(done),
        "frequencies": _figure(
            done, "class-frequencies", "Class frequencies", "Positive images of each label and split",
            bars.class_frequencies(done.study),
        ),
    }  # fmt: skip
    return files.write_atomically(done.page, html.render("paper.html.j2", **context))


def _films(done: Reproduction) -> list[Figure]:
    """Figures 1 and 2: the first image, before and after augmentation, as the paper's way renders it."""
    recipe = done.of(paper.WAYS[0])[-1].run.recipes[0]
    image_id, path = str(done.study.ids[0]), done.study.paths()[0]
    pictures = list(squares(read_bytes(path), recipe, image_id).pixels)
    names = ["before", *(f"pass {k}" for k in range(1, len(pictures)))]
    caption = f"Image {image_id} of study {done.study.name}, {recipe.size} px."
    what = f"{caption} Policy: {(recipe.augmentation or {}).get('name', 'none')}, seed {recipe.seed}."
    first = bars.side_by_side(pictures[:1], ["as the network sees it"], "The first image", caption)
    second = bars.side_by_side(pictures, names, "Before and after augmentation", what)
    return [
        _figure(done, "figure-1", "Figure 1: the first image", f"Chest X-ray {image_id}", first),
        _figure(
            done, "figure-2", "Figure 2: with augmentation", f"The same film, and {len(names) - 1} augmented", second
        ),
    ]


def _loss(done: Reproduction, result: Result) -> Figure:
    heading = f"Figure 3: {_title(result)}"
    alt = f"Training and validation loss over {result.run.notes.get('epochs_run', '?')} epochs"
    return _figure(done, f"figure-3-{result.key}", heading, alt, curves.loss(result.run, heading))


def _roc(done: Reproduction, result: Result) -> Figure:
    heading, macro = f"Figure {result.arm.figure}: {_title(result)}", result.test.macro
    alt = f"ROC curves, macro AUROC {macro['auroc']:.3f} over {len(macro['over'])} labels"
    drawing = result.test.curves("roc").plot(title=heading)
    return _figure(done, f"figure-{result.arm.figure}-{result.key}", heading, alt, drawing)


def _tests(done: Reproduction) -> list[tuple[Table, list[str], Figure]]:
    """Each comparison: its table, its conclusions, its forest plot."""
    found = []
    titles = {way.key: f"The arms, {way.title.lower()}" for way in paper.WAYS}
    titles |= {arm.key: f"The ways, {arm.title}" for arm in paper.ARMS}
    for key, comparison in {**done.between_arms, **done.between_ways}.items():
        heading = f"{titles[key]}: differences to {comparison.baseline.name}"
        figure = _figure(done, f"tests-{key}", heading, "Differences in AUROC with intervals over patients", comparison)
        (rows,) = comparison.tables().values()
        found.append((html.table(heading, rows, comparison.caption()), comparison.conclusions, figure))
    return found


def _table(done: Reproduction, name: str, rows: Sequence[Row]) -> Table:
    """Write a table as CSV, with whether the weights were random in every row, and return it for the page."""
    text = files.csv_text(pd.DataFrame(list(rows)).assign(random_weights=done.random), None)
    files.write_atomically(done.folder / "tables" / f"{name}.csv", text)
    return html.table(TITLES[name], rows, f"study {done.study.name}; tables/{name}.csv")


def _figure(done: Reproduction, name: str, heading: str, alt: str, drawing: Any) -> Figure:
    """Save what has a `save` as a figure of the page."""
    path = done.folder / "figures" / f"{name}.png"
    drawing.save(path)
    return Figure(heading, alt, _place(done, path))


def _place(done: Reproduction, path: Path) -> str:
    return path.relative_to(done.folder).as_posix()


def _title(result: Result) -> str:
    return f"{result.arm.title}, {result.way.title.lower()}"
