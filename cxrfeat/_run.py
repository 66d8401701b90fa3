"""A run folder, read: what a head was trained on and what it predicted. No head is loaded here.

A run holds `head.json` (what follows), the head itself, `study.csv` (the study as it was), `predictions.csv`
(`image_id`, `split`, one probability column per label) and, where they were made, `history.csv`, `metrics.json` and
`figures/`. Nothing in it names a place on the machine that made it, but for the paths of the images in `study.csv`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxrfeat._files import read_csv
from cxrfeat._recipe import Recipe
from cxrfeat._store import EmbeddingFile
from cxrfeat._study import Study, read_study_file
from cxrfeat.errors import HeadError, NotFoundError

FORMAT, FORMAT_VERSION = "cxrfeat-run", 1


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes
    ----------
    path : pathlib.Path
        The folder.
    info : mapping
        The content of `head.json`.
    """

    path: Path
    info: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder.

        Parameters
        ----------
        path : str or Path
            The folder.

        Raises
        ------
        NotFoundError
            If it is not there or has no `head.json`.
        HeadError
            If `head.json` is damaged, foreign, or of a newer version.
        """
        path = Path(path)
        file = path / "head.json"
        if not file.is_file():
            raise NotFoundError(f"{path} is not a run: it has no head.json. `cxrfeat fit-head` makes runs.")
        try:
            info = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise HeadError(f"{file} is damaged: {error}.") from error
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise HeadError(f"{file} was not written by cxrfeat: its format is not {FORMAT!r}.")
        if info.get("format_version") != FORMAT_VERSION:
            raise HeadError(
                f"{file} has format version {info.get('format_version')}; this cxrfeat reads version {FORMAT_VERSION}. "
                "Upgrade cxrfeat, or fit the head again."
            )
        return cls(path, info)

    @classmethod
    def earlier(
        cls, path: str | Path, embeddings: str | Path, study: Study, options: Mapping[str, Any] | None = None
    ) -> Run | None:
        """Open a finished run that was fitted on the same, so that it need not be fitted again.

        Parameters
        ----------
        path : path
            The folder; it need not exist.
        embeddings : path
            The embedding file.
        study : Study
            With the labels and splits it would be fitted on.
        options : mapping, optional
            Those of `fit_head` that it must have had.

        Returns
        -------
        Run or None
            None where there is no finished run, or it is of another recipe, study or options.
        """
        if not (Path(path) / "head.json").is_file():
            return None
        run = cls.open(path)
        with EmbeddingFile.open(embeddings) as file:
            same = run.recipes == (file.recipe,)
        before = run.info.get("options", {})
        same = same and all(before.get(key) == value for key, value in (options or {}).items())
        return run if same and run.info["study"]["sha256"] == study.sha256 else None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def kind(self) -> str:
        """The kind of head: `logistic`, `keras`, ..."""
        return str(self.info["kind"])

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the head's outputs."""
        return tuple(self.info["labels"])

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes of the embeddings it was trained on; several when files were joined."""
        return tuple(Recipe.from_json(json.dumps(recipe)) for recipe in self.info["recipes"])

    @property
    def thresholds(self) -> dict[str, float]:
        """Decision threshold of each label; NaN where none could be chosen."""
        values = self.info.get("thresholds", {}).get("values", {})
        return {label: float("nan") if values.get(label) is None else float(values[label]) for label in self.labels}

    @property
    def random(self) -> bool:
        """Whether a backbone had random weights, so that no number of this run is a result."""
        return any(recipe.random for recipe in self.recipes)

    def describe(self) -> str:
        """A few words for titles and tables."""
        # A head that was trained on pass 0 has nothing of the augmented passes that its file may hold.
        plain = self.info.get("options", {}).get("passes") == "0"
        return f"{self.kind} head on " + " + ".join((r.pass0 if plain else r).describe() for r in self.recipes)

    def study(self) -> Study:
        """The study it was trained on, with its labels in the head's order."""
        return read_study_file(self.path / "study.csv", labels=self.labels, name=self.info["study"]["name"])

    def predictions(self, split: str | None = None) -> pd.DataFrame:
        """Probabilities, float64, one column per label, indexed by `image_id`; of one split or of all.

        Parameters
        ----------
        split : str, optional
            One split; by default all.

        Raises
        ------
        NotFoundError
            If there is no `predictions.csv`.
        HeadError
            If it is no table of numbers, a label's column is missing, or the split has no rows.
        """
        file = self.path / "predictions.csv"
        if not file.is_file():
            raise NotFoundError(f"{file} is missing; `cxrfeat predict --run {self.path}` makes it.")
        table = read_csv(file, HeadError, dtype={"image_id": str, "split": str}, keep_default_na=True)
        missing = [c for c in ("image_id", "split", *self.labels) if c not in table.columns]
        if missing:
            raise HeadError(f"{file} has no column {missing[0]!r}.")
        if split is not None:
            table = table[table["split"] == split]
            if table.empty:
                raise HeadError(f"{file} has no predictions for split {split!r}.")
        try:
            return table.set_index("image_id")[list(self.labels)].astype(float)
        except ValueError as error:
            raise HeadError(f"{file} holds something else than probabilities: {error}. Predict again.") from error
