"""Writing an embedding file: part by part while extracting, and in one atomic step at the end.

Nothing that was published is ever touched. Rows become durable as parts (`parts`); `publish` streams the published
file's rows and the parts' into a new file beside it, checks every row that it copies and the new file as a whole, syncs
it, gives it the published name in one step, and only then removes the parts. Killed anywhere, what was published is
still there and the next extraction goes on from the parts. What the finished file holds depends on the rows and the
order asked alone, never on how often the work was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._recipe import Recipe
from cxrfeat._store import assembly, disk, layout, parts, sessions
from cxrfeat._store.layout import Failure, Rows
from cxrfeat._store.ledger import Ledger
from cxrfeat._store.lock import Lock
from cxrfeat._store.reader import EmbeddingFile
from cxrfeat.errors import EmbeddingFileError, RecipeError


class Writer:
    """One extraction into one file; a context manager, which keeps what was appended and gives up the lock.

    Parameters
    ----------
    path, recipe, dim, provenance, part_rows
        As `Writer.open` has them, which also takes the lock.

    Attributes
    ----------
    done : Ledger
        SHA-256 of the image, 32 bytes, for each image id that has a row already.
    notes : list of str
        What was found and mended when opening, as sentences for the user.
    provenance : dict
        Of this session, to be added to (the engine) until `publish`; in the file, earlier ones are under `earlier`.
    """

    def __init__(self, path: Path, recipe: Recipe, dim: int, provenance: Mapping[str, Any], part_rows: int) -> None:
        self.path, self.recipe, self.dim = path, recipe, dim
        self.done = Ledger()
        self.notes: list[str] = []
        self.provenance = dict(provenance)
        self._earlier: list[dict[str, Any]] = []
        self._part_rows = part_rows
        self._failures: dict[str, Failure] = {}
        self._new_failures: dict[str, Failure] = {}
        self._pending: list[Rows] = []
        self._parts: list[parts.Part] = []
        self._published: EmbeddingFile | None = None
        self._number = 1
        self._lock = Lock(path)

    @classmethod
    def open(
        cls, path: str | Path, recipe: Recipe, dim: int, provenance: Mapping[str, Any], part_rows: int = 256
    ) -> Writer:
        """Take the lock, and find what is there already.

        Parameters
        ----------
        path : str or Path
            The embedding file; it need not exist.
        recipe : Recipe
            What makes the embeddings.
        dim : int
            Length of an embedding.
        provenance : mapping
            Package versions, engine, device, time: anything JSON. Not part of the content.
        part_rows : int
            Rows after which what was appended becomes durable.

        Raises
        ------
        LockedError
            If a living process is writing this file.
        RecipeError
            If the file or an unfinished extraction was made by another recipe.
        EmbeddingFileError
            If the file is damaged, or its folder cannot be written.
        """
        path = Path(path)
        writer = cls(path, recipe, dim, provenance, part_rows)
        with disk.telling(path):
            _make_folders(path.parent)
        writer._lock.acquire()
        try:
            with disk.telling(path):
                writer._recover()
        except BaseException:
            writer._leave()
            raise
        return writer

    @property
    def failed(self) -> dict[str, str]:
        """Reason by image id, of the images that could not be used and have no row."""
        return {i: reason for i, (_, _, reason) in self._failures.items() if i not in self.done}

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        # What was computed is kept, after Ctrl-C too; not after a failure of the disk itself, which would fail again.
        try:
            if not isinstance(error, EmbeddingFileError):
                self.flush()
        finally:
            self._leave()

    def close(self) -> None:
        """Make durable what was appended, and give up the lock."""
        self.__exit__(None, None, None)

    def drop(self, image_ids: Iterable[str]) -> None:
        """Forget the rows of these images: they changed.

        Parameters
        ----------
        image_ids : iterable of str
            Which.
        """
        gone = set(image_ids)
        if gone & {i for rows in self._pending for i in layout.decode_texts(rows.ids).tolist()}:
            self.flush()
        self.done.drop(gone)

    def append(
        self,
        image_ids: Sequence[str] | npt.NDArray[np.str_],
        image_sha256: npt.NDArray[np.uint8],
        embeddings: npt.NDArray[np.float32],
    ) -> None:
        """Add rows; they are durable once `part_rows` have come together, after `flush`, and on leaving.

        Parameters
        ----------
        image_ids : sequence of str, (n,)
            Ids that have no row yet.
        image_sha256 : uint8 (n, 32)
            Hashes of the image files' bytes.
        embeddings : float32 (passes, n, dim)
            All renderings.

        Raises
        ------
        EmbeddingFileError
            If a value is NaN or infinite (the images are named and nothing of the batch is kept), a shape is wrong,
            an id has a row already, or the disk cannot be written.
        """
        ids = [str(i) for i in image_ids]
        embeddings = np.asarray(embeddings)
        wanted = (self.recipe.passes + 1, len(ids), self.dim)
        if embeddings.shape != wanted or embeddings.dtype != np.float32:
            raise EmbeddingFileError(
                f"embeddings of shape {embeddings.shape}, {embeddings.dtype}, cannot go into {self.path}: "
                f"{wanted}, float32, was expected."
            )
        if np.shape(image_sha256) != (len(ids), 32):
            raise EmbeddingFileError(f"image hashes of shape {np.shape(image_sha256)}; {(len(ids), 32)} was expected.")
        layout.check_finite(ids, embeddings)
        twice = [i for i in ids if i in self.done]
        if twice or len(set(ids)) != len(ids):
            raise EmbeddingFileError(f"image {(twice or ids)[0]!r} has a row in {self.path} already; drop it first.")
        rows = Rows(layout.encode_ids(ids), np.array(image_sha256, dtype=np.uint8), embeddings.copy())
        self._pending.append(rows)
        self.done.pend(ids, rows.image_sha256)
        if sum(map(len, self._pending)) >= self._part_rows:
            self.flush()

    def fail(self, image_id: str, path: str | Path, reason: str) -> None:
        """Record an image that could not be used; a row that comes later takes its place.

        Parameters
        ----------
        image_id, path, reason : str
            Which image, its path in the study, and what is wrong with it.
        """
        failure = (image_id, layout.clip(str(path), layout.MAX_PATH), layout.clip(reason, layout.MAX_REASON))
        layout.encode_ids([image_id])
        if self._failures.get(image_id) != failure:
            self._failures[image_id] = self._new_failures[image_id] = failure

    def flush(self) -> None:
        """Make durable what was appended, as one more part."""
        if not self._pending and not self._new_failures:
            return
        rows = parts.join(self._pending, self.recipe.passes + 1, self.dim)
        with self._lock.writing(self._safe()):
            part = parts.write(
                self.path,
                self._lock,
                self._number,
                self.recipe,
                sessions.text(self.provenance, ()),
                rows,
                tuple(self._new_failures.values()),
            )
        self._number += 1
        self._pending, self._new_failures = [], {}
        self._take(part)

    def publish(self, order: Sequence[str] | npt.NDArray[np.str_]) -> None:
        """Put everything into the embedding file, in one step.

        Where nothing was added, changed or dropped, the file is left as it is.

        Parameters
        ----------
        order : sequence of str
            The rows stand in this order; ids without a row are passed over, rows without an id here come after.

        Raises
        ------
        EmbeddingFileError
            If the disk cannot be written, or a row that is to be copied is damaged. What was published is untouched
            and the parts stay.
        """
        self.flush()
        failures = self._final_failures(order)
        if self._unchanged(failures):
            return
        plan = self._plan(order, failures)
        with self._lock.writing(self._safe()):
            assembly.publish(self.path, plan, self._lock)
            self._lock.check()
            parts.remove(self.path, [part.path for part in self._parts])
            self._read_published()

    def _recover(self) -> None:
        if self._lock.taken_over is not None:
            self.notes.append(
                f"{self._lock.taken_over.describe()} had {self.path} and is gone; what it left has been checked."
            )
        for draft in assembly.drafts(self.path):
            disk.remove(draft)
        found, broken = parts.find(self.path, self.recipe, self.dim)
        if broken:
            self.notes.append(f"{len(broken)} unfinished or damaged parts were removed; their images come again.")
            parts.remove(self.path, broken)
        self._number = parts.next_number(self.path)
        self._read_published()
        left_over = [part for part in found if self._is_published(part)]
        parts.remove(self.path, [part.path for part in left_over])
        for part in found:
            if part not in left_over:
                self._take(part)
        published = [self._published.provenance_text] if self._published is not None else []
        self._earlier = sessions.before([*published, *(part.provenance for part in self._parts)])
        if self._parts:
            rows = sum(len(part.rows) for part in self._parts)
            self.notes.append(f"{rows:,} rows of an interrupted extraction are kept.")

    def _read_published(self) -> None:
        if self._published is not None:
            self._published.close()
        self._published, self._parts = None, []
        self.done, self._failures = Ledger(), {}
        if not self.path.exists():
            self.done.add([], np.empty((0, 32), np.uint8))  # source 0 is the published file, k the k-th part
            return
        self._published = file = EmbeddingFile.open(self.path)
        if file.recipe != self.recipe:
            raise RecipeError(
                f"{self.path} was made by another recipe ({file.recipe.difference(self.recipe)}). Name another file "
                "with -o, or use the recipe of the file."
            )
        if file.dim != self.dim:
            raise EmbeddingFileError(f"{self.path} has embeddings of length {file.dim}, not {self.dim}.")
        self.done.add(file.image_ids.tolist(), file.image_sha256())
        self._failures = {row[0]: row for row in file.failed}

    def _take(self, part: parts.Part) -> None:
        """Count a part's rows among those there are."""
        self._parts.append(part)
        self._failures.update({row[0]: row for row in part.failures})
        self.done.add(layout.decode_texts(part.rows.ids).tolist(), part.rows.image_sha256)

    def _is_published(self, part: parts.Part) -> bool:
        """Whether the published file holds all that a part holds: the process died before removing it."""
        file = self._published
        if file is None:
            return False
        ids = layout.decode_texts(part.rows.ids)
        for image_id, hash_ in zip(ids.tolist(), part.rows.image_sha256, strict=True):
            if self.done.get(image_id) != bytes(hash_):
                return False
        if any(row[0] not in self.done and self._failures.get(row[0]) != row for row in part.failures):
            return False
        there = file.read(ids, range(file.passes))
        return there.tobytes() == parts.load(part).embeddings.tobytes()

    def _unchanged(self, failures: Sequence[Failure]) -> bool:
        file = self._published
        if file is None:
            return False
        return not self._parts and self.done.durable == len(file) and set(failures) == set(file.failed)

    def _plan(self, order: Iterable[str], failures: Sequence[Failure]) -> assembly.Plan:
        wanted = self.done.order(order)
        places = self.done.places(wanted)
        card = layout.Card(
            recipe=self.recipe.to_json(),
            provenance=sessions.text(self.provenance, self._earlier),
            shape=(self.recipe.passes + 1, len(wanted), self.dim),
            ids=layout.encode_ids(wanted),
            image_sha256=self.done.hashes(places),
            failures=failures,
        )
        return assembly.Plan(card, [self._published, *self._parts], places)

    def _final_failures(self, order: Iterable[str]) -> list[Failure]:
        """Return the failures of images without a row: in the study's order, then any others by id."""
        left = {i: failure for i, failure in self._failures.items() if i not in self.done}
        if not left:
            return []
        first = [left.pop(i) for i in dict.fromkeys(map(str, order)) if i in left]
        return first + [left[i] for i in sorted(left)]

    def _safe(self) -> str:
        rows = self.done.durable
        return f"{rows:,} finished rows are safe. " if rows else ""

    def _leave(self) -> None:
        if self._published is not None:
            self._published.close()
            self._published = None
        self._lock.release()


def _make_folders(folder: Path) -> None:
    if not folder.is_dir():
        _make_folders(folder.parent)
        disk.system.mkdir(folder)
        disk.system.sync_folder(folder.parent)
