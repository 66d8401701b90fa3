"""Several heads as one: the mean of their logits, or a weighted sum learnt on patients they had not seen.

A stacked ensemble (Wolpert, Neural Networks 1992, 5(2):241-259) learns one weight a member and label by logistic
regression on out-of-fold logits of train, so that a member that has learnt its rows by heart gets no credit for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._heads.base import Fitted, Floats, Head
from cxrfeat._heads.registry import head_class
from cxrfeat._heads.solver.labels import Labels
from cxrfeat._heads.solver.path import solve
from cxrfeat._heads.solver.rows import MatrixRows
from cxrfeat._heads.solver.sums import LocalSums
from cxrfeat._heads.weighting import Weighting
from cxrfeat.errors import HeadError


class EnsembleHead(Head):
    """Logits are a weighted sum of the members', plus a constant.

    `places` are the first and last (exclusive) columns of the joined embeddings that each member takes; `weights` is
    (members, labels) and `offset` (labels,).
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
        return {
            "members": [
                {
                    "kind": member.kind,
                    "labels": list(member.labels),
                    "columns": list(place),
                    "unfitted": [n for n, there in zip(member.labels, member.fitted, strict=True) if not there],
                    "state": member.describe(),
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
    def fit(cls, task: Any, settings: Any, **options: Any) -> Fitted:
        """Raise: an ensemble is joined of fitted heads."""
        raise HeadError("an ensemble is made with `ensemble`, of several heads.")

    @classmethod
    def load(cls, folder: Path, labels: tuple[str, ...], state: Mapping[str, Any]) -> EnsembleHead:
        """Read every member by its own kind's rules."""
        try:
            found = [(str(m["kind"]), tuple(map(str, m["labels"])), m.get("state", {})) for m in state["members"]]
            unfitted = [set(m["unfitted"]) for m in state["members"]]
            places = [(int(m["columns"][0]), int(m["columns"][1])) for m in state["members"]]
            weights, offset = (np.array(state[key], dtype=float) for key in ("weights", "offset"))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise HeadError(f"{folder / 'head.json'} describes no ensemble ({error!r}); fit it again.") from error
        if weights.shape != (len(found), len(labels)) or any(names != labels for _, names, _ in found):
            raise HeadError(f"{folder / 'head.json'} describes no ensemble of heads of these labels; fit it again.")
        members = []
        for number, (kind, names, own) in enumerate(found):
            members.append(head_class(kind).load(folder / f"member-{number}", names, own))
            members[-1].fitted = np.array([name not in unfitted[number] for name in names])
        return cls(members, places, weights, offset)


def combine(
    members: Sequence[Head],
    places: Sequence[tuple[int, int]],
    held_out: Floats | None,
    y: Floats,
    weighting: Weighting,
) -> EnsembleHead:
    """Join heads: by weights learnt from out-of-fold logits (images, members, labels), or without these by their mean.

    `y` is (images, labels).
    """
    count, labels = len(members), len(members[0].labels)
    weights, offset = np.full((count, labels), 1 / count), np.zeros(labels)
    if held_out is None:
        return EnsembleHead(members, places, weights, offset)
    for k in range(labels):
        known = ~np.isnan(y[:, k]) & ~np.isnan(held_out[:, :, k]).any(axis=1)
        if not (members[0].fitted[k] and 0 < y[known, k].sum() < known.sum()):
            continue  # nothing to learn weights by: the mean stays
        x = np.ascontiguousarray(held_out[known, :, k])
        one = slice(k, k + 1)
        truth = Labels.of(y[known, one], weighting.positive[one], weighting.negative[one])
        with closing(LocalSums(MatrixRows(x), truth)) as sums:
            solution = solve(sums, np.ones(1))
        weights[:, k], offset[k] = solution.coef[0], solution.intercept[0]
    return EnsembleHead(members, places, weights, offset)
