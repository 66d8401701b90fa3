"""The whole job on the embedded sample, from the table of images to a panel of maps.

Everything is written into one folder, laid out as a project of the user's own (`studies/`, `cache/`, `runs/`), so that
every other command can be tried there afterwards. What is done already is not done again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxrfeat import _html
from cxrfeat import _sample as sample
from cxrfeat._progress import Progress, silent
from cxrfeat._run import Run
from cxrfeat._summary import summarise

_log = logging.getLogger(__name__)

BACKBONE, PASSES = "densenet121", 2
REPLICATES = 500
PANELS = 3


@dataclass(repr=False)
class Demo:
    """What the demo made.

    Attributes
    ----------
    folder : pathlib.Path
        Where everything is.
    random : bool
        Whether the backbone had random weights, so that no number is a result.
    macro_auroc : float
        Over the labels for which it is defined, on the test split.
    accuracy, all_negative : float
        Correct labels over images times labels at 0.5, and the same for the always-negative baseline.
    rows : list of dict
        One row per label: positives, AUROC, its interval; the macro average last.
    made : dict of str to pathlib.Path
        The files written, by what they are.
    """

    folder: Path
    random: bool = False
    macro_auroc: float = float("nan")
    accuracy: float = float("nan")
    all_negative: float = float("nan")
    rows: list[dict[str, Any]] = field(default_factory=list)
    made: dict[str, Path] = field(default_factory=dict)

    def __repr__(self) -> str:
        warning = ", RANDOM weights: not a result" if self.random else ""
        return f"<Demo in {self.folder}: macro AUROC {self.macro_auroc:.3f}{warning}>"

    def _repr_html_(self) -> str:
        return _html.page(repr(self)[1:-1], self.made, self.rows)


def demo(
    out: str | Path = "cxrfeat-demo",
    *,
    weights: str = "auto",
    passes: int = PASSES,
    engine: str = "auto",
    progress: Callable[[str], AbstractContextManager[Progress]] = lambda title: nullcontext(silent),
) -> Demo:
    """Run both stages on the embedded sample: study, embeddings, head, evaluation, maps.

    Parameters
    ----------
    out : path
        The folder to write into; what an earlier, even an interrupted demo left there is used.
    weights, passes, engine
        As for `extract`. With `auto`, random weights are used where ImageNet's are not available.
    progress : callable
        Given a title, returns a context manager for the progress of a long step.

    Returns
    -------
    Demo

    Raises
    ------
    CxrfeatError
        As the steps do.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> done = cxr.demo(".", weights="random:0", passes=0)
    >>> done.random, sorted(done.made)[0]
    (True, 'Grad-CAM of ...')
    """
    from cxrfeat._evaluate import evaluate  # not above: each step brings its own packages
    from cxrfeat._explain.maps import explain
    from cxrfeat._extract import extract
    from cxrfeat._heads import fit_head
    from cxrfeat._report import bars

    done, study = Demo(Path(out)), sample.study()
    counts = summarise(study)
    _log.info("1/5 study: %d images of %d patients; %s.", len(study), counts.patients["all"], counts.leakage())
    done.made["study"] = study.save(done.folder / "studies" / f"{sample.NAME}.csv")
    done.made["class frequencies"] = done.folder / "class-frequencies.png"
    bars.class_frequencies(study).save(done.made["class frequencies"])

    _log.info("2/5 embeddings: %s, pass 0 and %d augmented passes.", BACKBONE, passes)
    with progress("extract") as bar:
        made = extract(
            study, cache=done.folder / "cache", backbone=BACKBONE, weights=weights, passes=passes, engine=engine,
            progress=bar,
        )  # fmt: skip
    _log.info("    %s", made.describe())
    done.random, done.made["embeddings"] = made.recipe.random, made.path

    _log.info("3/5 head: logistic, with the class weights of the reference paper.")
    done.made["run"] = folder = done.folder / "runs" / f"{sample.NAME}-{BACKBONE}-logistic-weighted"
    if (run := Run.earlier(folder, made.path, study)) is None:
        with progress("fit head") as bar:
            run = fit_head(study, made.path, "logistic", weighting="paper", out=folder, overwrite=True, progress=bar)
    else:
        _log.info("    the head is fitted already.")

    _log.info("4/5 evaluation on the test split.")
    with progress("bootstrap") as bar:
        found = evaluate(run, replicates=REPLICATES, progress=bar)
    curves = found.curves("roc")
    done.made["ROC curves"], done.made["metrics"] = folder / "figures" / "roc.png", folder / "metrics.csv"
    found.save(figures=False)
    curves.save(done.made["ROC curves"])
    done.rows, done.macro_auroc = curves.rows, float(found.macro["auroc"])
    done.accuracy, done.all_negative = found.accuracy["at_half"], found.accuracy["all_negative_baseline"]

    _log.info("5/5 Grad-CAM: the %d clearest true positives, the 4 most probable findings of each.", PANELS)
    with progress("explain") as bar:
        maps = explain(run, limit=PANELS, engine=engine, out=True, progress=bar)
    done.made |= {f"Grad-CAM of {row['image_id']}": Path(row["figure"]) for row in maps.rows}
    return done
