"""A share of a study, for one of several extractions that know nothing of each other.

An image is in the share that a hash of its id says, so that it stays there when the study grows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from cxrfeat._study import Study
from cxrfeat.errors import StudyError

MOST = 100_000


@dataclass(frozen=True)
class Shard:
    """Share `number` of `of`, counted from 1; written `3/8`."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `3/8`."""
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
        number, of = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= of <= MOST:
            raise StudyError(f"`shard` must be NUMBER/COUNT from 1/COUNT to COUNT/COUNT, as 3/8, not {text!r}.")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def stem(self) -> str:
        """Name of a file of it, without ending; in the order of the numbers."""
        return f"{self.number:0{len(str(self.of))}d}-of-{self.of}"

    def take(self, study: Study) -> Study:
        """Return the images of a study that are in it, in the study's order."""
        ids = study.table["image_id"]
        here = np.fromiter((_hash(str(i)) % self.of == self.number - 1 for i in ids), bool, len(ids))
        if not here.any():
            raise StudyError(
                f"shard {self} of study {study.name!r} has none of its {len(study):,} images. Take fewer shards."
            )
        return study.take(here)


def _hash(image_id: str) -> int:
    return int.from_bytes(blake2b(image_id.encode(errors="surrogateescape"), digest_size=8).digest(), "little")
