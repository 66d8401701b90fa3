"""Repairing a damaged embedding file: every row that is still what was written is kept, and the others are named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cxrfeat._progress import Progress, silent
from cxrfeat._store import assembly
from cxrfeat._store.embedding_file import open_damaged
from cxrfeat._store.lock import Lock
from cxrfeat._store.protocols import store_of
from cxrfeat._store.rows import encode_ids, listing
from cxrfeat._store.verify import Verification, check_rows
from cxrfeat.errors import EmbeddingFileError


@dataclass(frozen=True)
class Repair:
    """What a repair kept and lost: `lost_ids` as far as they could be read, `problems` what was wrong beside the rows.

    `changed` is False if nothing was wrong and nothing was written.
    """

    path: Path
    changed: bool
    kept: int
    lost: int
    lost_ids: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        if not self.changed:
            return f"{self.path}: nothing to repair, {self.kept:,} sound rows."
        lines = [f"was wrong: {problem}" for problem in self.problems]
        lines.append(f"{self.path}: {self.kept:,} rows kept, {self.lost:,} lost; `cxrfeat extract` embeds these again.")
        return "\n".join([*lines, *listing(self.lost_ids)])


def repair(file: str | Path, out: str | Path | None = None, *, progress: Progress = silent) -> Repair:
    """Keep every sound row of a damaged file; `cxrfeat extract` then does only the others.

    A row is sound if its whole block of 256 matches its SHA-256 and it holds no NaN or infinity. Failures are dropped
    if anything but rows is damaged: an extraction tries those images again in any case.

    Parameters
    ----------
    file : str or Path
        The damaged file.
    out : str or Path, optional
        Where to write; by default in its place, atomically.
    progress : Progress
        Called with rows written.

    Returns
    -------
    Repair
        What was kept and what was lost.

    Raises
    ------
    NotFoundError
        If it is not there.
    EmbeddingFileError
        If no row can be saved, or the disk cannot be written; the damaged file is then as it was.
    LockedError
        If a living process is writing it.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> import numpy as np
    >>> cxr.cache.import_(np.ones((2, 4)), "cache/a.h5", ids=["1", "2"], backbone="ours").close()
    >>> cxr.cache.repair("cache/a.h5").changed
    False
    """
    path = Path(file)
    if path.is_dir():
        raise EmbeddingFileError(f"{path} is a folder; repair the file in it that `cxrfeat cache verify` names.")
    target = Path(out) if out is not None else path
    if target.exists() and not target.samefile(path):
        raise EmbeddingFileError(f"{target} exists already; name a new file.")
    with Lock(target) as lock, lock.writing(), open_damaged(path, salvage=True) as wreck:
        keep = check_rows(wreck, Verification(path), progress)
        lost = np.delete(wreck.image_ids, keep).tolist()
        outside = store_of(path).damage_outside(path)
        problems = (*wreck.problems, *([outside] if outside else ()))
        if not problems and not lost and out is None:
            return Repair(path, False, len(wreck), 0, (), ())
        if not keep:
            raise EmbeddingFileError(
                f"no row of {path} can be saved: {'; '.join(problems) or 'no block matches its SHA-256'}. "
                "Remove it and extract again."
            )
        header = replace(
            wreck.header,
            shape=(wreck.passes, len(keep), wreck.dim),
            ids=encode_ids(wreck.image_ids[keep]),
            image_sha256=wreck.header.image_sha256[keep],
            failures=() if wreck.problems else wreck.failed,
        )
        places = np.stack([np.zeros(len(keep), np.int64), keep], axis=1)
        assembly.publish(target, header, [wreck], places, lock, progress)
        return Repair(target, True, len(keep), len(wreck) - len(keep), tuple(lost), problems)
