"""What a reproduction is, as it grows: the arms' results, their comparisons, and where everything lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cxrfeat import _html as html
from cxrfeat._evaluate import Evaluation
from cxrfeat._evaluate.comparison import Comparison
from cxrfeat._reproduce.paper import EPOCHS, Arm, Way
from cxrfeat._run import Run
from cxrfeat._study import Study

REPLICATES = 1000


@dataclass
class Result:
    """One arm in one way, evaluated on the training images, as the paper's table 1 is, and on the test images."""

    arm: Arm
    way: Way
    run: Run
    training: Evaluation
    test: Evaluation

    @property
    def key(self) -> str:
        """Its name in file names."""
        return f"{self.way.key}-{self.arm.key}"


@dataclass
class Reproduction:
    """The paper's experiment on a study: three arms in each way, and their comparisons.

    `between_arms` has the other arms against DenseNet121 without augmentation, by way; `between_ways` the other ways
    against the paper's text, by arm. `embedded` and `fitted` count what was done now, and not before.
    """

    folder: Path
    page: Path
    study: Study
    size: int
    passes: int
    epochs: int = EPOCHS
    replicates: int = REPLICATES
    seed: int = 0
    results: list[Result] = field(default_factory=list)
    between_arms: dict[str, Comparison] = field(default_factory=dict)
    between_ways: dict[str, Comparison] = field(default_factory=dict)
    embedded: int = 0
    fitted: int = 0

    def __repr__(self) -> str:
        stamp = "RANDOM weights, not a result; " if self.random else ""
        return f"<Reproduction of the paper on study {self.study.name}: {stamp}{len(self.results)} heads; {self.page}>"

    def _repr_html_(self) -> str:
        rows = self.to_frame().to_dict("records")
        return html.page("The reference paper", {"study": self.study.name, "random weights": self.random}, rows)

    @property
    def random(self) -> bool:
        """Whether a backbone had random weights, so that no number says anything about the paper."""
        return any(result.run.random for result in self.results)

    @property
    def tables(self) -> Mapping[str, list[dict[str, Any]]]:
        """Rows of every table, by name: accuracies beside the paper's, AUROCs of the labels it names, deviations."""
        from cxrfeat._reproduce import account

        return account.tables_of(self)

    @property
    def account(self) -> list[str]:
        """Sentences on where and why the numbers differ from the paper's."""
        from cxrfeat._reproduce import account

        return account.sentences(self)

    def to_frame(self) -> pd.DataFrame:
        """Test accuracy of each arm in each way, beside the paper's."""
        return pd.DataFrame(self.tables["accuracy-test"])

    def of(self, way: Way) -> list[Result]:
        """The three arms in one way."""
        return [result for result in self.results if result.way == way]

    def maps_folder(self, result: Result) -> Path:
        """Where the panels of figures 7 and 8 are."""
        return self.folder / "figures" / f"maps-{result.key}"
