"""Several heads as one: the mean of their logits, or a weighted sum learnt on patients they had not seen.

A stacked ensemble (Wolpert, Neural Networks 1992, 5(2):241-259) learns one weight a member and label by logistic
regression on out-of-fold logits of train, so that a member that has learnt its rows by heart gets no credit for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.head import Floats, Head
from cxrfeat._heads.rows import MatrixRows
from cxrfeat._heads.solver import solve
from cxrfeat.errors import HeadError

METHODS = ("mean", "stacked")


class EnsembleHead(Head):
    """Logits are a weighted sum of the members', plus a constant.

    Parameters
    ----------
    members : sequence of Head
        Heads of the same labels.
    places : sequence of tuple of int
        First and last (exclusive) column of the joined embeddings that each member takes.
    weights, offset : numpy.ndarray
        float64 (members, labels) and (labels,).
    """

    kind = "ensemble"

    def __init__(
        self, members: Sequence[Head], places: Sequence[tuple[int, int]], weights: Floats, offset: Floats
    ) -> None:
        super().__init__(members[0].labels, max(stop for _, stop in places))
        self.members, self.places = list(members), list(places)
        self.weights, self.offset = weights, offset
        self.fitted = np.logical_and.reduce([member.fitted for member in members])

    @property
    def linear(self) -> tuple[Floats, Floats] | None:
        """Coefficients and intercepts, if all members are linear."""
        coef, intercept = np.zeros((len(self.labels), self.dim)), self.offset.copy()
        for member, (start, stop), weight in zip(self.members, self.places, self.weights, strict=True):
            if member.linear is None:
                return None
            coef[:, start:stop] += weight[:, None] * member.linear[0]
            intercept += weight * member.linear[1]
        return coef, intercept

    def _logits(self, x: npt.NDArray[np.float32]) -> Floats:
        total = np.tile(self.offset, (len(x), 1))
        for member, (start, stop), weight in zip(self.members, self.places, self.weights, strict=True):
            total += weight * member.logits(x[:, start:stop])
        return total

    def describe(self) -> dict[str, Any]:
        """What `head.json` holds of the members and how they are joined."""
        return {
            "members": [
                {
                    "kind": member.kind,
                    "labels": list(member.labels),
                    "columns": list(place),
                    "unfitted": [n for n, there in zip(member.labels, member.fitted, strict=True) if not there],
                }
                for member, place in zip(self.members, self.places, strict=True)
            ],
            "weights": self.weights.tolist(),
            "offset": self.offset.tolist(),
        }

    def save(self, folder: Path) -> list[str]:
        """Write each member's files in a folder of its own."""
        names = []
        for number, member in enumerate(self.members):
            inner = folder / f"member-{number}"
            inner.mkdir(exist_ok=True)
            names += [f"{inner.name}/{name}" for name in member.save(inner)]
        return names

    @classmethod
    def load(cls, folder: Path, info: Mapping[str, Any]) -> EnsembleHead:
        """Read every member by its own kind's rules."""
        from cxrfeat._heads.files import load_from

        try:
            found = list(info["members"])
            weights, offset = np.array(info["weights"], dtype=float), np.array(info["offset"], dtype=float)
            places = [(int(m["columns"][0]), int(m["columns"][1])) for m in found]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise HeadError(f"{folder / 'head.json'} describes no ensemble ({error!r}); fit it again.") from error
        if any(m.get("kind") == cls.kind for m in found) or weights.shape != (len(found), len(info["labels"])):
            raise HeadError(f"{folder / 'head.json'} describes no ensemble of plain heads; fit it again.")
        members = [load_from(folder / f"member-{number}", m) for number, m in enumerate(found)]
        return cls(members, places, weights, offset)


def join(
    members: Sequence[Head],
    places: Sequence[tuple[int, int]],
    method: str,
    held_out: npt.NDArray[np.float64] | None = None,
    y: Floats | None = None,
    weight: Floats | None = None,
) -> EnsembleHead:
    """Join heads.

    Parameters
    ----------
    members, places
        As in `EnsembleHead`.
    method : str
        `mean` or `stacked`.
    held_out, y, weight : numpy.ndarray
        For `stacked`: out-of-fold logits (images, members, labels), labels and class weights (images, labels).

    Raises
    ------
    HeadError
        If the method is unknown.
    """
    count, labels = len(members), len(members[0].labels)
    weights, offset = np.full((count, labels), 1 / count), np.zeros(labels)
    if method == "mean":
        return EnsembleHead(members, places, weights, offset)
    if method != "stacked" or held_out is None or y is None or weight is None:
        raise HeadError(f"unknown ensemble {method!r}; choose one of {', '.join(METHODS)}.")
    for k in range(labels):
        known = ~np.isnan(y[:, k]) & ~np.isnan(held_out[:, :, k]).any(axis=1)
        if not (members[0].fitted[k] and 0 < y[known, k].sum() < known.sum()):
            continue  # nothing to learn weights by: the mean stays
        x = np.ascontiguousarray(held_out[known, :, k])
        solution = solve(MatrixRows(x), y[known, k : k + 1], weight[known, k : k + 1], np.ones(1))
        weights[:, k], offset[k] = solution.coef[0], solution.intercept[0]
    return EnsembleHead(members, places, weights, offset)
