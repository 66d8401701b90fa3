"""The account of a reproduction: tables beside the paper's numbers, and sentences on where and why they differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cxrfeat._evaluate import Evaluation
from cxrfeat._evaluate.bootstrap import bootstrap, percentiles
from cxrfeat._report import tables
from cxrfeat._reproduce.experiment import Reproduction, Result
from cxrfeat._reproduce.paper import (
    ABOVE_HALF,
    ARMS,
    CITATION,
    DEVIATIONS,
    FIGURE_7,
    SIZE,
    TRAINING_IMAGES,
    VALIDATION_IMAGES,
    WAYS,
)

Row = dict[str, Any]
ACCURACY = "accuracy_at_half"
MICRO = -1
Z = 1.96
TESTED = (VALIDATION_IMAGES, 100, TRAINING_IMAGES, 1000)
"""Numbers of images that the paper may have tested on: it does not say."""


def tables_of(done: Reproduction) -> dict[str, list[Row]]:
    """Rows of every table, by name."""
    return {
        "deviations": deviation_rows(),
        "accuracy-training": accuracy_rows(done, "training"),
        "accuracy-test": accuracy_rows(done, "test"),
        "accuracy-differences": difference_rows(done),
        "auroc-paper": claim_rows(done),
        "sampling-error": sampling_rows(done),
        "auroc": auroc_rows(done),
        "weights": [dict(row) for row in done.of(WAYS[0])[0].run.class_weights],
    }


def deviation_rows() -> list[Row]:
    """What the paper says, what its figures imply, what is done here, and why."""
    names = ("of", "the paper says", "its figures imply", "here", "why")
    return [dict(zip(names, row, strict=True)) for row in DEVIATIONS]


def accuracy_rows(done: Reproduction, split: str) -> list[Row]:
    """Table 1 (`training`) or 2 (`test`): one row per arm and way, beside the paper's and the baseline.

    The last column is how far two accuracies differ by sampling error, ours and the paper's, if the paper tested as
    many images as it trained on.
    """
    rows = []
    for result in done.results:
        found: Evaluation = getattr(result, split)
        low, high = found.micro.get(f"{ACCURACY}_bootstrap", (np.nan, np.nan))
        theirs = getattr(result.arm, split)
        rows.append(
            {
                "arm": result.arm.title,
                "way": result.way.title,
                "n": len(found.scored),
                "accuracy": found.micro[ACCURACY],
                "95 % over patients": tables.span_text((low, high)),
                "paper": theirs,
                "difference": found.micro[ACCURACY] - theirs,
                "sampling error": math.hypot((high - low) / 2, Z * _spread(found) / math.sqrt(TRAINING_IMAGES)),
                "always negative": found.micro["all_negative_accuracy"],
                "largest output right": largest_right(found),
            }
        )
    return rows


def largest_right(found: Evaluation) -> float:
    """The accuracy that Keras shows for several outputs: images whose largest output is their first label.

    An image without a label counts as one with the first: the largest of equal numbers is the first.
    """
    y, p = np.nan_to_num(found.scored.y), np.nan_to_num(found.scored.p)
    return float((y.argmax(axis=1) == p.argmax(axis=1)).mean())


def difference_rows(done: Reproduction) -> list[Row]:
    """Differences in test accuracy to DenseNet121 without augmentation, with paired intervals over patients."""
    rows = []
    for way in WAYS:
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


def claim_rows(done: Reproduction) -> list[Row]:
    """Every AUROC that the paper's text speaks of, beside those here."""
    rows = []
    for arm in ARMS:
        results = [result for result in done.results if result.arm == arm]
        labels = {row["label"]: k for k, row in enumerate(results[0].test.rows[:-1])}
        for label, said in arm.aurocs.items():
            if label in labels:
                found = [result.test.rows[labels[label]] for result in results]
                cells = {r.way.title: _auroc(row) for r, row in zip(results, found, strict=True)}
                rows.append({"arm": arm.title, "label": label, "n+": found[0]["positives"], "paper": said, **cells})
        counts = {r.way.title: _above_half(r) for r in results}
        said = f"{ABOVE_HALF[arm.key]} of 14"
        rows.append({"arm": arm.title, "label": "labels at 0.5 or above", "n+": None, "paper": said, **counts})
    return rows


def sampling_rows(done: Reproduction) -> list[Row]:
    """What 95 % intervals of the paper's numbers would be, for several numbers of test images.

    An accuracy's is of the images here, whose shares of right labels vary as they do; an AUROC's by Hanley and McNeil
    (Radiology 1982), with positives as frequent as here.
    """
    spread, fibrosis, heart = _spread(done.results[0].test), _share(done, "Fibrosis"), _share(done, "Cardiomegaly")
    return [
        {
            "test images": n,
            "accuracy 0.82": f"± {Z * spread / math.sqrt(n):.3f}",
            "Fibrosis positives": max(round(fibrosis * n), 1),
            "AUROC 0.775 of Fibrosis": f"± {Z * hanley_mcneil(0.775, max(round(fibrosis * n), 1), n):.2f}",
            "AUROC 0.51 of Cardiomegaly": f"± {Z * hanley_mcneil(0.51, max(round(heart * n), 1), n):.2f}",
        }
        for n in TESTED
    ]


def hanley_mcneil(auroc: float, positives: int, images: int) -> float:
    """Standard error of an AUROC; Hanley and McNeil, Radiology 1982, 143:29-36."""
    q1, q2, negatives = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc), images - positives
    total = auroc * (1 - auroc) + (positives - 1) * (q1 - auroc**2) + (negatives - 1) * (q2 - auroc**2)
    return math.sqrt(total / (positives * negatives))


def auroc_rows(done: Reproduction) -> list[Row]:
    """AUROC of every label, one column for each arm in each way, the macro average last."""
    rows = []
    for k, first in enumerate(done.results[0].test.rows[:-1]):
        values = {f"{r.arm.title}, {r.way.key}": r.test.rows[k]["auroc"] for r in done.results}
        rows.append({"label": first["label"], "n+": first["positives"], **values})
    return rows


def sentences(done: Reproduction) -> list[str]:
    """Where and why these numbers differ from the paper's, as far as is known."""
    counts = {name: len(done.study.split(name)) for name in ("train", "val", "test")}
    test = done.results[0].test
    called = [np.mean([np.nanmean(result.test.scored.p >= 0.5) for result in done.of(way)]) for way in WAYS]
    shares = ", ".join(f"{way.title.lower()} {share:.1%}" for way, share in zip(WAYS, called, strict=True))
    figure_7 = " and ".join(f"{label} at {p}" for label, p in FIGURE_7.items())
    return [
        "The backbones have RANDOM weights here, so that no number on this page says anything about the paper: "
        "neither agreement nor difference. `cxrfeat weights fetch` gets ImageNet's."
        if done.random
        else "Both start from ImageNet's weights.",
        f"{CITATION} trained on {TRAINING_IMAGES} images and validated on {VALIDATION_IMAGES}, and does not say on how "
        f"many it tested; study {done.study.name} has {counts['train']:,} for training, {counts['val']:,} for "
        f"validation and {counts['test']:,} for testing, and they are other images."
        + ("" if done.size == SIZE else f" Images are {done.size} px here and {SIZE} px there."),
        "Accuracy counts every label of every image, most of which are absent: the always-negative baseline scores "
        f"{test.micro['all_negative_accuracy']:.3f} on these test images. The paper gives no baseline for its images, "
        "so that its accuracies may be above or below it, and a difference to them may be one of baselines.",
        "The probabilities of a softmax add up to one, so that at most one of an image's labels passes 0.5, and the "
        f"accuracy approaches that of the baseline. Labels of the test images called present at 0.5: {shares}; "
        f"{np.nanmean(test.scored.y):.1%} are.",
        f"The paper's text says softmax, and its Figure 7 shows {figure_7} in one image: {sum(FIGURE_7.values()):.3f} "
        "together, which one softmax cannot give.",
    ]


def _auroc(row: Row) -> str:
    if np.isnan(row["auroc"]):
        return "-"
    span = row.get("auroc_bootstrap")
    return f"{row['auroc']:.3f}" + (f" ({tables.span_text(span)})" if span is not None else "")


def _above_half(result: Result) -> str:
    values = np.array([row["auroc"] for row in result.test.rows[:-2]], dtype=float)
    return f"{int((values >= 0.5).sum())} of {int(np.isfinite(values).sum())}"


def _spread(found: Evaluation) -> float:
    """Standard deviation over the images of their shares of right labels."""
    y, p = found.scored.y, found.scored.p
    right = np.where(np.isnan(y) | np.isnan(p), np.nan, (p >= 0.5) == (y == 1))
    return float(np.nanstd(np.nanmean(right, axis=1)))


def _share(done: Reproduction, label: str) -> float:
    """How frequent a label is in the study; of one that it does not have, as in ChestX-ray14."""
    published = {"Fibrosis": 1686 / 112120, "Cardiomegaly": 2776 / 112120}
    return float(np.nanmean(done.study.table[label])) if label in done.study.labels else published[label]


def _draws(result: Result, done: Reproduction) -> np.ndarray:
    scored = result.test.scored
    drawn = bootstrap(scored.y, scored.p, scored.patients, scored.thresholds, done.replicates, done.seed)
    return drawn.draws[ACCURACY][:, MICRO]
