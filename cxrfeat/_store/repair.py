"""Mending a damaged embedding file: every row that is still what was written is kept, and the others are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrfeat._progress import Progress, silent
from cxrfeat._store import assembly, layout, salvage
from cxrfeat._store.lock import Lock
from cxrfeat._store.verify import damaged_rows
from cxrfeat.errors import EmbeddingFileError


@dataclass(frozen=True)
class Repair:
    """What became of a damaged file.

    Attributes
    ----------
    path : pathlib.Path
        The mended file.
    changed : bool
        False if nothing was wrong and nothing was written.
    kept : int
        Sound rows.
    lost : int
        Rows that must be extracted again.
    lost_ids : tuple of str
        Their image ids, where these could still be read.
    problems : tuple of str
        What was wrong, beside the rows.
    """

    path: Path
    changed: bool
    kept: int
    lost: int
    lost_ids: tuple[str, ...]
    problems: tuple[str, ...]


def repair(path: str | Path, out: str | Path | None = None, progress: Progress = silent) -> Repair:
    """Keep every sound row of a damaged file; `cxrfeat extract` then does only the others.

    A row is sound if its whole block of 256 matches its SHA-256 and it holds no NaN or infinity. Failures are dropped
    if anything but rows is damaged: an extraction tries those images again in any case.

    Parameters
    ----------
    path : str or Path
        The damaged file.
    out : str or Path, optional
        Where to write; by default in its place, atomically.
    progress : Progress
        Told of rows written.

    Raises
    ------
    NotFoundError
        If it is not there.
    EmbeddingFileError
        If no row can be saved, or the disk cannot be written; the damaged file is then as it was.
    LockedError
        If a living process is writing it.
    """
    path = Path(path)
    target = Path(out) if out is not None else path
    with Lock(target) as lock, lock.writing():
        wreck = salvage.open_damaged(path)
        try:
            places, lost, blocks_lost = _sort_rows(wreck)
            index_broken = salvage.has_index(path) and salvage.read_index(path) is None
            problems = (*wreck.problems, *(("its recovery index is damaged",) if index_broken else ()))
            if not problems and not blocks_lost and not lost and out is None:
                return Repair(path, False, len(wreck), 0, (), ())
            if not len(places):
                raise EmbeddingFileError(
                    f"no row of {path} can be saved: {'; '.join(problems) or 'no block matches its SHA-256'}. "
                    "Remove it and extract again."
                )
            plan = _plan(wreck, places, keep_failures=not wreck.problems)
            assembly.publish(target, plan, lock, progress)
        finally:
            wreck.close()
    return Repair(target, True, len(places), len(wreck) - len(places), tuple(lost), problems)


def _sort_rows(wreck: salvage.Damaged) -> tuple[np.ndarray, list[str], int]:
    """Return the rows to keep, (n, 2) as places of source 0, the ids of the others, and the number of bad blocks."""
    keep: list[int] = []
    lost: list[str] = []
    bad_blocks = 0
    seen: set[bytes] = set()
    for rows, found in damaged_rows(wreck):
        if found is None:
            bad_blocks += 1
            lost += [i.decode(errors="replace") for i in wreck.encoded_ids[rows].tolist()]
            continue
        finite = layout.finite(found.embeddings).tolist()
        for row, image_id, good in zip(range(rows.start, rows.stop), found.ids.tolist(), finite, strict=True):
            if good and image_id not in seen:
                seen.add(image_id)
                keep.append(row)
            else:
                lost.append(image_id.decode(errors="replace"))
    return np.array([(0, row) for row in keep], dtype=np.int64).reshape(-1, 2), lost, bad_blocks


def _plan(wreck: salvage.Damaged, places: np.ndarray, keep_failures: bool) -> assembly.Plan:
    rows = places[:, 1]
    failures: Sequence[layout.Failure] = wreck.failed if keep_failures else ()
    card = layout.Card(
        recipe=wreck.recipe.to_json(),
        provenance=wreck.provenance_text,
        shape=(wreck.passes, len(rows), wreck.dim),
        ids=layout.encode_ids(layout.decode_texts(wreck.encoded_ids[rows])),
        image_sha256=wreck.image_sha256()[rows],
        failures=failures,
    )
    return assembly.Plan(card, [wreck], places)
