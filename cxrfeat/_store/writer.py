"""Writing an embedding file: segment by segment while extracting, and in one atomic step at the end.

What was published is never touched. Rows become durable as segments of a journal; `publish` streams the published
file's rows and the segments' into a new file beside it, checks every row that it copies and the new file as a whole,
syncs it, gives it the published name in one step, and only then removes the segments. Killed anywhere, what was
published is still there and the next extraction resumes from the segments. What the finished file holds depends on the
rows and their order alone, never on how often the work was interrupted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._recipe import Recipe
from cxrfeat._store import assembly, disk, names, rows
from cxrfeat._store.embedding_file import EmbeddingFile
from cxrfeat._store.journal import Journal, Segment, Shards
from cxrfeat._store.lock import Lock
from cxrfeat._store.row_index import RowIndex
from cxrfeat._store.rows import Failure, Header, Rows
from cxrfeat.errors import EmbeddingFileError, RecipeError

_log = logging.getLogger(__name__)


class Writer:
    """One extraction into one file; a context manager, which keeps what was appended and releases the lock.

    `done` has the SHA-256 of the image, 32 bytes, for each id that has a row. `provenance` is this session's, and may
    be added to until `publish`.
    """

    def __init__(self, path: Path, recipe: Recipe, dim: int, provenance: Mapping[str, Any], segment_rows: int) -> None:
        self.path, self.recipe, self.dim = path, recipe, dim
        self.done = RowIndex()
        self.provenance = dict(provenance)
        self._earlier: list[dict[str, Any]] = []
        self._segment_rows = segment_rows
        self._failures: dict[str, Failure] = {}
        self._new_failures: dict[str, Failure] = {}
        self._pending: list[Rows] = []
        self._journal = Journal(path)
        self._segments: list[Segment] = []
        self._published: EmbeddingFile | None = None
        self._lock = Lock(path)

    @classmethod
    def open(
        cls, path: str | Path, recipe: Recipe, dim: int, provenance: Mapping[str, Any], segment_rows: int = 256
    ) -> Writer:
        """Take the lock of a file that need not exist, and find what is there already.

        `provenance` (anything JSON) is not part of the content. Rows become durable `segment_rows` at a time. Another
        recipe, in the file or in its journal, is a RecipeError.
        """
        path = Path(path)
        if path.is_dir():
            raise EmbeddingFileError(
                f"{path} is a folder. Name a new file with `out`; `cxrfeat cache collect` adds it to a collection."
            )
        writer = cls(path, recipe, dim, provenance, segment_rows)
        writer._lock.acquire()
        try:
            with writer._lock.writing():
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

    def drop(self, image_ids: Iterable[str]) -> None:
        """Forget the rows of these images: they changed."""
        gone = set(image_ids)
        if gone & {i for pending in self._pending for i in rows.decode_texts(pending.ids).tolist()}:
            self.flush()
        self.done.drop(gone)

    def append(
        self,
        image_ids: Sequence[str] | npt.NDArray[np.str_],
        image_sha256: npt.NDArray[np.uint8],
        embeddings: npt.NDArray[np.float32],
    ) -> None:
        """Add rows; they are durable once `segment_rows` have come together, after `flush`, and on leaving.

        `image_sha256` is uint8 (n, 32), `embeddings` float32 (passes, n, dim). A value that is not finite, a wrong
        shape, or an id that has a row already is an EmbeddingFileError, and nothing of the batch is kept. Values are
        rounded to what the recipe's `storage` holds.
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
        embeddings = rows.checked(ids, embeddings, self.recipe.storage)
        twice = [i for i in ids if i in self.done]
        if twice or len(set(ids)) != len(ids):
            raise EmbeddingFileError(f"image {(twice or ids)[0]!r} has a row in {self.path} already; drop it first.")
        added = Rows(rows.encode_ids(ids), np.array(image_sha256, dtype=np.uint8), embeddings.copy())
        self._pending.append(added)
        self.done.pend(ids, added.image_sha256)
        if sum(map(len, self._pending)) >= self._segment_rows:
            self.flush()

    def shards(self) -> Shards:
        """Return what workers elsewhere write rows with; `take` then enters these here."""
        return self._journal.shards(self._lock)

    def take(
        self, shard: Path, image_ids: Sequence[str] | npt.NDArray[np.str_], image_sha256: npt.NDArray[np.uint8]
    ) -> None:
        """Enter the rows that a worker made durable in a shard; of an id that has a row already, the new one counts."""
        with self._lock.writing(self._safe()):
            self._enter(self._journal.take(shard, rows.encode_ids(image_ids), image_sha256))

    def fail(self, image_id: str, path: str | Path, reason: str) -> None:
        """Record an image that could not be used; a row that comes later takes its place."""
        failure = (image_id, rows.clip(str(path), rows.MAX_PATH), rows.clip(reason, rows.MAX_REASON))
        rows.encode_ids([image_id])
        if self._failures.get(image_id) != failure:
            self._failures[image_id] = self._new_failures[image_id] = failure

    def flush(self) -> None:
        """Make durable what was appended, as one more segment."""
        if not self._pending and not self._new_failures:
            return
        joined = _join(self._pending, self.recipe.passes + 1, self.dim)
        failures = tuple(self._new_failures.values())
        with self._lock.writing(self._safe()):
            text = rows.provenance(self.provenance)
            segment = self._journal.write(self._lock, self.recipe, text, joined, failures)
        self._pending, self._new_failures = [], {}
        self._enter(segment)

    def publish(self, order: Sequence[str] | npt.NDArray[np.str_]) -> None:
        """Put everything into the embedding file, in one step; where nothing changed, the file is left as it is.

        Rows come in this `order`: ids without a row are passed over, rows without an id in it come after. If it fails,
        what was published is untouched and the segments stay.
        """
        self.flush()
        failures = self._final_failures(order)
        file = self._published
        complete = file is not None and not self._segments and self.done.durable == len(file)
        if file is not None and complete and set(failures) == set(file.failed):
            return
        wanted = self.done.order(order)
        places = self.done.places(wanted)
        header = Header(
            recipe=self.recipe.to_json(),
            provenance=rows.provenance(self.provenance, self._earlier),
            shape=(self.recipe.passes + 1, len(wanted), self.dim),
            ids=rows.encode_ids(wanted),
            image_sha256=self.done.hashes(places),
            failures=failures,
        )
        with self._lock.writing(self._safe()):
            assembly.publish(self.path, header, [self._published, *self._segments], places, self._lock)
            self._lock.check()
            self._journal.clear()
            self._read_published()

    def _recover(self) -> None:
        if (dead := self._lock.taken_over) is not None:
            _log.info("%s had %s and is gone; its journal has been checked.", dead.describe(), self.path)
        for draft in names.drafts(self.path):
            disk.remove(draft)
        found, broken = self._journal.find(self.recipe, self.dim)
        if broken:
            _log.info("%d unfinished or damaged segments were removed; their images are embedded again.", len(broken))
            self._journal.remove(broken)
        self._read_published()
        left_over = [segment for segment in found if self._is_published(segment)]
        self._journal.remove([segment.path for segment in left_over])
        for segment in found:
            if segment not in left_over:
                self._enter(segment)
        published = [self._published.header.provenance] if self._published is not None else []
        self._earlier = rows.sessions([*published, *(segment.provenance for segment in self._segments)])
        if self._segments:
            kept = sum(map(len, self._segments))
            _log.info("%s rows of an interrupted extraction are kept.", f"{kept:,}")

    def _read_published(self) -> None:
        if self._published is not None:
            self._published.close()
        self._published, self._segments = None, []
        self.done, self._failures = RowIndex(), {}
        if not self.path.exists():
            self.done.add([], np.empty((0, 32), np.uint8))  # source 0 is the published file, k the k-th segment
            return
        self._published = file = EmbeddingFile.open(self.path)
        if file.recipe != self.recipe:
            raise RecipeError(
                f"{self.path} was made by another recipe ({file.recipe.difference(self.recipe)}). Name another file "
                "with `out`, or use the recipe of the file."
            )
        if file.dim != self.dim:
            raise EmbeddingFileError(f"{self.path} has embeddings of length {file.dim}, not {self.dim}.")
        self.done.add(file.image_ids.tolist(), file.image_sha256())
        self._failures = {row[0]: row for row in file.failed}

    def _enter(self, segment: Segment) -> None:
        """Count a segment's rows among those there are."""
        self._segments.append(segment)
        self._failures.update({row[0]: row for row in segment.failures})
        self.done.add(rows.decode_texts(segment.ids).tolist(), segment.image_sha256)

    def _is_published(self, segment: Segment) -> bool:
        """Whether the published file holds all that a segment holds: the process died before removing it."""
        file = self._published
        if file is None:
            return False
        ids = rows.decode_texts(segment.ids)
        hashes = map(bytes, segment.image_sha256)
        if any(self.done.get(image_id) != hash_ for image_id, hash_ in zip(ids.tolist(), hashes, strict=True)):
            return False
        if any(row[0] not in self.done and self._failures.get(row[0]) != row for row in segment.failures):
            return False
        there = file.read(ids, range(file.passes))
        return there.tobytes() == segment.load().embeddings.tobytes()

    def _final_failures(self, order: Iterable[str]) -> list[Failure]:
        """Return the failures of images without a row: in the study's order, then any others by id."""
        left = {i: failure for i, failure in self._failures.items() if i not in self.done}
        if not left:
            return []
        first = [left.pop(i) for i in dict.fromkeys(map(str, order)) if i in left]
        return first + [left[i] for i in sorted(left)]

    def _safe(self) -> str:
        durable = self.done.durable
        return f"{durable:,} finished rows are safe. " if durable else ""

    def _leave(self) -> None:
        if self._published is not None:
            self._published.close()
            self._published = None
        self._lock.release()


def _join(pending: Sequence[Rows], passes: int, dim: int) -> Rows:
    """Put batches of rows together; without any, rows of that shape and none of them."""
    none = Rows(np.empty(0, "S1"), np.empty((0, 32), np.uint8), np.empty((passes, 0, dim), np.float32))
    batches = [none, *pending]
    return Rows(
        np.concatenate([batch.ids for batch in batches]),
        np.concatenate([batch.image_sha256 for batch in batches]),
        np.concatenate([batch.embeddings for batch in batches], axis=1),
    )
