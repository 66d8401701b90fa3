"""What every kind of head is: a class that declares what it can do, fits itself to a task, saves and loads itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.decision import Calibration
from cxrfeat._heads.settings import read_settings
from cxrfeat._heads.solver.labels import Labels
from cxrfeat._heads.solver.rows import FileRows, Floats, Ints, Rows
from cxrfeat._heads.solver.sums import LocalSums, Sums
from cxrfeat._heads.weighting import Weighting, weigh
from cxrfeat._progress import Progress, silent
from cxrfeat.errors import HeadError

if TYPE_CHECKING:
    import pandas as pd

CHECKPOINT = "checkpoint"
"""The folder of a run that holds what an interrupted fit resumes from."""


@dataclass(frozen=True)
class Task:
    """Training rows of one head: all images of pass 0, then those of the next.

    `y` has their labels, float64 (rows, labels): 1, 0 or NaN for unknown; `soft` has probabilities there too, for kinds
    that learn from them. `groups` are the patients; `images` rows are of pass 0. `validation` has embeddings and labels
    for early stopping, which are never fitted on. Checkpoints go into `folder`. With a Ray `cluster` the
    rows are on its workers, in at most `memory` bytes of a node.
    """

    rows: Rows
    y: Floats
    groups: npt.NDArray[np.str_]
    weighting: Weighting
    images: int
    seed: int = 0
    validation: tuple[npt.NDArray[np.float32], Floats] | None = None
    folder: Path | None = None
    soft: Floats | None = None
    cluster: Any = None
    memory: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return self.weighting.labels

    @property
    def x(self) -> npt.NDArray[np.float32]:
        """The embeddings as one matrix; read into memory if they are not there yet."""
        return self.rows.whole()

    @property
    def weights(self) -> Floats:
        """Weight of every entry of `targets`; 0 where unknown."""
        return self.weighting.of(self.y if self.soft is None else self.soft)

    @property
    def targets(self) -> Floats:
        """What to fit, float64 (rows, labels): `y`, with probabilities between 0 and 1 for kinds that take them."""
        return self.y if self.soft is None else self.weighting.targets(self.soft)

    def sums(self) -> Sums:
        """The rows with their labels and weights, as the logistic solver sees them; to be closed."""
        y = self.y if self.soft is None else self.soft
        labels = Labels.of(y, self.weighting.positive, self.weighting.negative)
        if self.cluster is None:
            return LocalSums(self.rows, labels)
        from cxrfeat._heads.cluster import ClusterSums

        return ClusterSums(self.cluster, cast(FileRows, self.rows), labels, self.memory)

    def part(self, rows: Ints) -> Task:
        """Some of the rows, in rising order, with class weights of their own."""
        y = self.y[rows]
        return replace(
            self,
            rows=self.rows.part(rows),
            y=y,
            groups=self.groups[rows],
            images=int((rows < self.images).sum()),
            weighting=weigh(y, self.labels, self.weighting.scheme),
            validation=None,
            folder=None,
            soft=None if self.soft is None else self.soft[rows],
        )


def logits_of(head: Head, rows: Rows) -> Floats:
    """Raw logits of a head for rows in memory or on the disk, float64 (rows, labels)."""
    out = np.empty((rows.shape[0], len(head.labels)))
    for place, x in rows.blocks():
        out[place] = head.logits(x)
    return out


@dataclass(frozen=True)
class Fitted:
    """A fitted head, uncalibrated, and how the fitting went.

    `converged` is False if the optimiser stopped before its tolerance. `history` has a row per epoch, if it trains by
    epochs; `notes` are what `head.json` keeps of the fit: settings, tolerance reached, iterations.
    """

    head: Head
    converged: bool = True
    history: pd.DataFrame | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


class Head(ABC):
    """A kind of head: it maps embeddings to one probability per label.

    A subclass declares what the kind can do, and implements `fit`, `save`, `load` and `_logits`. It is registered under
    its name as an entry point of the group `cxrfeat.heads`.

    Attributes
    ----------
    kind : str
        The name that users type, and that `head.json` keeps.
    Settings : type
        A dataclass with a default for every setting; `__post_init__` raises a HeadError for a value out of range.
    grid : mapping of str to sequence
        Values that `search=True` tries of each setting; empty if there is nothing to search.
    takes_weights : bool
        Whether it can be fitted with class weights.
    soft_targets : bool
        Whether `fit` learns from probabilities, `Task.targets`, and not from the labels `Task.y` alone.
    needs_validation : bool
        Whether `fit` reads `Task.validation`.
    streams : bool
        Whether `fit` goes over `Task.rows` block by block, so that they need not fit into memory.
    distributes : bool
        Whether `fit` asks for nothing but sums over rows (`Task.sums`), so that workers of a cluster can give them.
    resumes : bool
        Whether an interrupted fit can be resumed.
    labels : tuple of str
        The labels, in the order of the outputs.
    dim : int
        Length of the embeddings it takes; of all files together if several are joined.
    calibration : Calibration
        What is done to the logits before the sigmoid.
    fitted : numpy.ndarray
        Which labels had both classes in training, bool (labels,); the logits of the others are NaN.

    Examples
    --------
    A head that ranks images by the distance to the mean of the positives:

    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> import cxrfeat as cxr
    >>> class Nearest(cxr.Head):
    ...     kind = "nearest-mean"
    ...
    ...     @dataclass(frozen=True)
    ...     class Settings:
    ...         scale: float = 1.0
    ...
    ...     def __init__(self, labels, means, scale):
    ...         super().__init__(labels, means.shape[1])
    ...         self.means, self.scale = means, scale
    ...
    ...     @classmethod
    ...     def fit(cls, task, settings, *, resume=False, progress=None):
    ...         means = np.stack([task.x[task.y[:, k] == 1].mean(axis=0) for k in range(task.y.shape[1])])
    ...         return cls(task.labels, means, settings.scale)
    ...
    ...     def _logits(self, x):
    ...         return 1 - self.scale * np.linalg.norm(x[:, None] - self.means, axis=2)
    ...
    ...     def save(self, folder):
    ...         np.savez(folder / "head.npz", means=self.means)
    ...         return ["head.npz"]
    ...
    ...     def describe(self):
    ...         return {"scale": self.scale}
    ...
    ...     @classmethod
    ...     def load(cls, folder, labels, state):
    ...         return cls(labels, np.load(folder / "head.npz")["means"], state["scale"])
    >>> head = Nearest(("Mass",), np.zeros((1, 2)), 2.0)
    >>> head.logits(np.array([[3.0, 4.0]]))
    array([[-9.]])
    """

    kind: ClassVar[str]
    Settings: ClassVar[type]
    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}
    takes_weights: ClassVar[bool] = True
    soft_targets: ClassVar[bool] = False
    needs_validation: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    distributes: ClassVar[bool] = False
    resumes: ClassVar[bool] = False

    def __init__(self, labels: tuple[str, ...], dim: int) -> None:
        self.labels = labels
        self.dim = dim
        self.calibration = Calibration.none(len(labels))
        self.fitted = np.ones(len(labels), dtype=bool)

    @classmethod
    def settings(cls, given: Mapping[str, Any]) -> Any:
        """Return `Settings` with the values given.

        Parameters
        ----------
        given : mapping
            Values by name; a HeadError names one that is unknown or wrong.
        """
        return read_settings(cls.Settings, given, cls.kind)

    @classmethod
    @abstractmethod
    def fit(cls, task: Task, settings: Any, *, resume: bool = False, progress: Progress = silent) -> Fitted | Head:
        """Fit a head.

        Parameters
        ----------
        task : Task
            Rows, labels and class weights.
        settings : Settings
            How to fit.
        resume : bool
            Continue from the checkpoint in `task.folder`; only if the kind `resumes`.
        progress : Progress
            Called with the units of work done and their total.

        Returns
        -------
        Fitted or Head
            The head, and how the fitting went if there is something to say of it.
        """

    @classmethod
    def fit_grid(cls, task: Task, tried: Sequence[Mapping[str, Any]]) -> Iterator[Head]:
        """Yield a head for each set of settings, in their order, as accurate as a choice between them needs.

        Parameters
        ----------
        task : Task
            Rows, labels and class weights.
        tried : sequence of mapping
            The sets of settings.
        """
        for given in tried:
            found = cls.fit(task, cls.settings(given))
            yield found.head if isinstance(found, Fitted) else found

    @property
    def linear(self) -> tuple[Floats, Floats] | None:
        """Coefficients (labels, dim) and intercepts (labels,) on raw embeddings; None if the head is not linear."""
        return None

    @property
    def network(self) -> Any:
        """The head as a Keras model, for maps by gradients; None if it is not one."""
        return None

    @property
    def softmax(self) -> bool:
        """Whether the labels share one softmax, so that a probability depends on the logits of all of them."""
        return False

    def logits(self, x: npt.NDArray[np.float32]) -> Floats:
        """Return raw logits, float64 (n, labels); NaN columns for labels that were not fitted.

        Parameters
        ----------
        x : float32 (n, dim)
            Embeddings.

        Raises
        ------
        HeadError
            If the embeddings have another length.
        """
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise HeadError(f"the head takes embeddings of shape (n, {self.dim}), not {x.shape}.")
        return np.where(self.fitted, self._logits(x), np.nan)

    def probabilities(self, x: npt.NDArray[np.float32]) -> Floats:
        """Return calibrated probabilities, float64 (n, labels).

        Parameters
        ----------
        x : float32 (n, dim)
            Embeddings.
        """
        return self.from_logits(self.logits(x))

    def from_logits(self, logits: Floats) -> Floats:
        """Return calibrated probabilities, float64 (n, labels), of this head's own raw logits.

        Parameters
        ----------
        logits : float64 (n, labels)
            As `logits` returns them.
        """
        return self.calibration.apply(logits)

    def describe(self) -> Mapping[str, Any]:
        """Return what `load` needs beside the files, of JSON types; nothing by default."""
        return {}

    @abstractmethod
    def _logits(self, x: npt.NDArray[np.float32]) -> Floats: ...

    @abstractmethod
    def save(self, folder: Path) -> list[str]:
        """Write the head's own files into a run folder and return their names.

        Parameters
        ----------
        folder : Path
            The run folder.
        """

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, labels: tuple[str, ...], state: Mapping[str, Any]) -> Head:
        """Read what `save` wrote, without running code from the folder.

        Parameters
        ----------
        folder : Path
            The run folder.
        labels : tuple of str
            The labels.
        state : mapping
            What `describe` returned.
        """
