"""What a reproduction is, as it grows: the arms' results, their comparisons, and where everything lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cxrfeat._evaluate import Evaluation
from cxrfeat._evaluate.comparison import Comparison
from cxrfeat._reproduce.arms import EPOCHS, Arm, Way
from cxrfeat._run import Run
from cxrfeat._study import Study

REPLICATES = 1000


@dataclass
class Result:
    """One arm in one way.

    Attributes
    ----------
    arm, way : Arm, Way
    run : Run
    training, test : Evaluation
        On the training images, as table 1 of the paper has it, and on the test images.
    """

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
    """What was done.

    Attributes
    ----------
    folder, page : pathlib.Path
        Where everything is, and the page to open.
    study : Study
    size, passes, epochs, replicates, seed : int
        As in `reproduce_paper`.
    results : list of Result
        The three arms in the paper's way, then in the right way.
    between_arms : dict of str to Comparison
        By way: the other arms against DenseNet121 without augmentation.
    between_ways : dict of str to Comparison
        By arm: the right way against the paper's.
    embedded, fitted : int
        Images embedded and heads fitted now; 0 where an earlier go had done it.
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

    @property
    def random(self) -> bool:
        """Whether a backbone had random weights, so that no number says anything about the paper."""
        return any(result.run.random for result in self.results)

    def of(self, way: Way) -> list[Result]:
        """The three arms in one way.

        Parameters
        ----------
        way : str
            `paper` or `right`.
        """
        return [result for result in self.results if result.way == way]

    def maps_folder(self, result: Result) -> Path:
        """Where the panels of figures 7 and 8 are.

        Parameters
        ----------
        result : Result
            Whose maps.
        """
        return self.folder / "figures" / f"maps-{result.key}"
