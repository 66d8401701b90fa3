"""The account of a reproduction: tables beside the paper's numbers, and sentences on where and why they differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrfeat._evaluate import Evaluation
from cxrfeat._evaluate.bootstrap import bootstrap, percentiles
from cxrfeat._report import tables
from cxrfeat._reproduce.arms import BEST, BEST_AUROCS, CITATION, SIZE, TRAINING_IMAGES, VALIDATION_IMAGES, Way
from cxrfeat._reproduce.reproduction import Reproduction, Result

Row = dict[str, Any]
ACCURACY = "accuracy_at_half"
MICRO = -1
PROCEDURE = (
    "Here the backbones stay frozen and only the head is trained. The paper names its six augmentations without their "
    "ranges, which are this project's; table 1 is of training images without augmentation."
)


def accuracy_rows(done: Reproduction, split: str) -> list[Row]:
    """Table 1 (`training`) or 2 (`test`): one row per arm and way, beside the paper's and the baseline."""
    rows = []
    for result in done.results:
        found: Evaluation = getattr(result, split)
        rows.append(
            {
                "arm": result.arm.title,
                "way": result.way.title,
                "n": len(found.scored),
                "accuracy": found.micro[ACCURACY],
                "95 % over patients": tables.span_text(found.micro.get(f"{ACCURACY}_bootstrap", (np.nan, np.nan))),
                "paper": getattr(result.arm, split),
                "everything absent": found.micro["all_negative_accuracy"],
            }
        )
    return rows


def difference_rows(done: Reproduction) -> list[Row]:
    """Differences in test accuracy to DenseNet121 without augmentation, with paired intervals over patients."""
    rows = []
    for way in dict.fromkeys(result.way for result in done.results):
        first, *others = done.of(way)
        base = _draws(first, done)
        for other in others:
            # One seed draws the same patients for both, which is what makes the interval a paired one.
            ends = percentiles((_draws(other, done) - base)[:, None])[0]
            rows.append(
                {
                    "arm": other.arm.title,
                    "way": way.title,
                    "difference": other.test.micro[ACCURACY] - first.test.micro[ACCURACY],
                    "95 % over patients": tables.span_text(ends.tolist()),
                    "paper": round(other.arm.test - first.arm.test, 2),
                }
            )
    return rows


def auroc_rows(done: Reproduction) -> list[Row]:
    """AUROC of every label, one column for each arm in each way, the macro average last."""
    labels = [row["label"] for row in done.results[0].test.rows[:-1]]
    positives = [row["positives"] for row in done.results[0].test.rows[:-1]]
    rows = []
    for k, (label, count) in enumerate(zip(labels, positives, strict=True)):
        values = {f"{r.arm.title}, {r.way.key}": r.test.rows[k]["auroc"] for r in done.results}
        rows.append({"label": label, "n+": count, **values})
    return rows


def sentences(done: Reproduction) -> list[str]:
    """Where and why these numbers differ from the paper's, as far as can be told."""
    found = [_weights(done), _images(done), PROCEDURE, _accuracy(done)]
    found += [_against_paper(result) for result in done.results]
    found += [_softmax(done), _best(done)]
    return [text for text in found if text]


def _weights(done: Reproduction) -> str:
    if done.random:
        return (
            "The backbones have RANDOM weights here, so that no number on this page says anything about the paper: "
            "not where they agree, and not where they differ. `cxrfeat weights fetch` gets ImageNet's, which do."
        )
    return "Both start from ImageNet's weights."


def _images(done: Reproduction) -> str:
    sides = {name: len(done.study.split(name)) for name in ("train", "val", "test")}
    size = "" if done.size == SIZE else f" Images are {done.size} px here and {SIZE} px there."
    return (
        f"{CITATION} trained on {TRAINING_IMAGES} images and validated on {VALIDATION_IMAGES}; study "
        f"{done.study.name} has {sides['train']:,} for training, {sides['val']:,} for validation and "
        f"{sides['test']:,} for testing, and they are other images: with so few, that alone moves an accuracy by "
        f"several hundredths.{size}"
    )


def _accuracy(done: Reproduction) -> str:
    baseline = done.results[0].test.micro["all_negative_accuracy"]
    return (
        f"Accuracy counts every label of every image, most of which are absent: calling everything absent scores "
        f"{baseline:.3f} on these test images. An accuracy near that is no skill, in the paper as little as here; "
        "AUROC does not have this fault."
    )


def _against_paper(result: Result) -> str:
    low, high = result.test.micro.get(f"{ACCURACY}_bootstrap", (np.nan, np.nan))
    if np.isnan(low):
        return ""
    theirs, ours = result.arm.test, result.test.micro[ACCURACY]
    where = "lies within" if low <= theirs <= high else "lies below" if theirs < low else "lies above"
    return (
        f"{result.arm.title}, {result.way.title.lower()}: test accuracy {ours:.3f}; the paper's {theirs:.2f} {where} "
        f"its interval of {low:.3f} to {high:.3f}."
    )


def _softmax(done: Reproduction) -> str:
    shares = {way.key: _called(done, way) for way in dict.fromkeys(result.way for result in done.results)}
    return (
        "A softmax makes the probabilities of all labels add up to one, so that at most one of them can pass 0.5: in "
        f"the paper's way {shares['paper']:.1%} of the labels of the test images are called present at 0.5, in the "
        f"right way {shares['right']:.1%}, and {_present(done):.1%} are. That pulls its accuracy towards that of "
        "calling everything absent."
    )


def _best(done: Reproduction) -> str:
    values = [
        f"{row['auroc']:.3f} ({r.arm.title}, {r.way.key})"
        for r in done.results
        for row in r.test.rows
        if row["label"] == BEST and not np.isnan(row["auroc"])
    ]
    if not values:
        return ""
    paper = " and ".join(f"{value:g}" for value in BEST_AUROCS)
    return f"The paper's best label is {BEST}, with AUCs of {paper}; here its AUROC is {', '.join(values)}."


def _called(done: Reproduction, way: Way) -> float:
    return float(np.mean([np.nanmean(result.test.scored.p >= 0.5) for result in done.of(way)]))


def _present(done: Reproduction) -> float:
    return float(np.nanmean(done.results[0].test.scored.y))


def _draws(result: Result, done: Reproduction) -> np.ndarray:
    scored = result.test.scored
    drawn = bootstrap(scored.y, scored.p, scored.patients, scored.thresholds, done.replicates, done.seed)
    return drawn.draws[ACCURACY][:, MICRO]
