"""What every reader of a dataset can be told: how to split, what to do about missing images, the study's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrfeat._datasets import folders
from cxrfeat._split import assign


@dataclass(frozen=True, kw_only=True)
class Options:
    """The keyword options that all readers share.

    Attributes
    ----------
    resplit : bool
        Split anew even where the dataset names the sides: the official lists of a release, the split column of a CSV.
    val, test : float
        Shares of all images. `test` counts only where the dataset does not name the sides; where it names no
        validation images, these are carved from its training patients.
    seed : int
        Of the split.
    skip_missing : bool
        Leave out rows whose image is not on disk instead of raising.
    tell : callable
        Given a line on the rows left out.
    name : str, optional
        The study's name; by default the folder's, or the CSV's without its ending.
    """

    resplit: bool = False
    val: float = 0.1
    test: float = 0.2
    seed: int = 0
    skip_missing: bool = False
    tell: Callable[[str], None] = lambda text: None
    name: str | None = None

    def present(self, table: pd.DataFrame, absent: npt.NDArray[np.bool_], named: pd.Series, where: str) -> pd.DataFrame:
        """The rows whose image is there; raises where some are not and were not to be left out."""
        return folders.without_missing(table, absent, named, where, self.tell if self.skip_missing else None)

    def sides(
        self,
        y: npt.NDArray[np.float64],
        patients: npt.NDArray[np.str_],
        listed: npt.NDArray[np.str_] | None,
    ) -> npt.NDArray[np.str_]:
        """The split of each image, (n,); see `split.assign`."""
        listed = None if self.resplit else listed
        return assign(y, patients, listed, val=self.val, test=self.test, seed=self.seed)
