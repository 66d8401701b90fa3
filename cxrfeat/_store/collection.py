"""A collection: embedding files of one recipe in a folder, with a manifest, which are read as one file.

The manifest, `collection.json`, names each member with its number of rows and its content hash; a member that was
replaced is found by that hash when the collection is opened. What is kept of the members while it is open are ids and
failures. Members are opened again when their rows are read, a few at a time.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat import _files as files
from cxrfeat._recipe import Recipe
from cxrfeat._store import names
from cxrfeat._store.embedding_file import EmbeddingFile, ImageIds
from cxrfeat._store.ids import Ids
from cxrfeat._store.rows import Failure, Header, provenance
from cxrfeat.errors import EmbeddingFileError, NotFoundError

FORMAT, FORMAT_VERSION = "cxrfeat-collection", 1
MAX_MANIFEST = 256 << 20  # bytes
OPEN = 8  # members that are open at a time


@dataclass(frozen=True)
class Member:
    """An embedding file of a collection: its name in the folder, its rows, and the hash of its content."""

    file: str
    images: int
    content_sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a collection consists of: its recipe, as JSON, and its members in the order of the rows."""

    recipe: str
    members: tuple[Member, ...]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check a folder's manifest."""
        path = folder / names.COLLECTION
        if not path.is_file():
            raise NotFoundError(
                f"{folder} is a folder without {names.COLLECTION}, and so no collection. `cxrfeat cache collect` makes "
                "one of embedding files."
            )
        try:
            if path.stat().st_size > MAX_MANIFEST:
                raise ValueError("it is too large")
            found = json.loads(path.read_bytes())
            if found["format"] != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            if found["format_version"] != FORMAT_VERSION:
                raise EmbeddingFileError(
                    f"{path} has format version {str(found['format_version'])[:20]}; this cxrfeat reads version "
                    f"{FORMAT_VERSION}. Upgrade cxrfeat, or collect the files again."
                )
            if files.own_hash(found) != found["sha256"]:
                raise ValueError("it does not match its own hash")
            members = tuple(
                Member(str(m["file"]), int(m["images"]), str(m["content_sha256"])) for m in found["members"]
            )
            if not members or any(Path(member.file).name != member.file for member in members):
                raise ValueError("its members are not files of the folder")
            return cls(str(found["recipe"]), members)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise EmbeddingFileError(f"{path} is damaged: {error}. Collect the files of the folder again.") from error

    def to_json(self) -> str:
        """The manifest's text."""
        found = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        found["members"] = list(found["members"])
        return json.dumps({**found, "sha256": files.own_hash(found)}, indent=1) + "\n"


class Collection(EmbeddingFile):
    """A folder of embedding files, open for reading as one; `EmbeddingFile(folder)` makes it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        self.recipe = Recipe.from_json(self.manifest.recipe)
        self._opened: OrderedDict[int, EmbeddingFile] = OrderedDict()
        self._seen: dict[int, npt.NDArray[np.bool_]] = {}
        ids, self._failed = [], dict[str, Failure]()
        for number, member in enumerate(self.manifest.members):
            with open_member(self.path, member) as file:
                if file.recipe != self.recipe or (number and file.dim != self.dim):
                    raise EmbeddingFileError(
                        f"{self.path} is damaged: its member {member.file} is of another recipe "
                        f"({self.recipe.difference(file.recipe) or 'embeddings of another length'})."
                    )
                self.passes, self.dim = file.passes, file.dim
                ids.append(file.header.ids)
                self._failed.update({row[0]: row for row in file.failed})
        self._ids, self.starts = united(ids, [member.file for member in self.manifest.members])
        self._n = int(self.starts[-1])

    def close(self) -> None:
        """Close all members."""
        while self._opened:
            self._opened.popitem()[1].close()

    def image_sha256(self, image_ids: ImageIds | None = None) -> npt.NDArray[np.uint8]:
        """SHA-256 of the image files, read from the members; see `EmbeddingFile`."""
        wanted = self.rows_of(image_ids)
        out = np.empty((len(wanted), 32), np.uint8)
        order = np.argsort(wanted, kind="stable")
        for number, here in self._by_member(wanted[order]):
            places = order[here]
            out[places] = self._member(number).header.image_sha256[wanted[places] - self.starts[number]]
        return out

    @property
    def failed(self) -> Sequence[Failure]:
        """The failures of images that no member has a row of."""
        found = self._ids.find(list(self._failed)) if self._failed else ()
        return [row for row, place in zip(self._failed.values(), found, strict=True) if place < 0]

    @property
    def content_sha256(self) -> str:
        """Hash of the members' hashes, in the order of the rows."""
        return files.own_hash({FORMAT: FORMAT_VERSION, "members": [m.content_sha256 for m in self.manifest.members]})

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """That of each member, under `collected`."""
        return {"collected": [self._member(k).provenance for k in range(len(self.manifest.members))]}

    @cached_property
    def header(self) -> Header:
        """All that a file of these rows would say beside them."""
        return Header(
            recipe=self.manifest.recipe,
            provenance=provenance(self.provenance),
            shape=(self.passes, len(self), self.dim),
            ids=self._ids.texts,
            image_sha256=self.image_sha256(),
            failures=self.failed,
        )

    def _fill(
        self,
        out: npt.NDArray[np.float32],
        wanted: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64] | None,
        passes: Sequence[int],
    ) -> None:
        for number, here in self._by_member(wanted):
            rows = wanted[here] - self.starts[number]
            if places is None:
                self._member(number)._fill(out[:, here], rows, None, passes)
            else:
                self._member(number)._fill(out, rows, places[here], passes)

    def _by_member(self, wanted: npt.NDArray[np.int64]) -> list[tuple[int, slice]]:
        """Members that have some of the rows, in ascending order, and which of these they have."""
        edges = np.searchsorted(wanted, self.starts).tolist()
        return [(number, slice(*here)) for number, here in enumerate(pairwise(edges)) if here[0] < here[1]]

    def _member(self, number: int) -> EmbeddingFile:
        """Return an open member."""
        if number in self._opened:
            self._opened.move_to_end(number)
        else:
            self._opened[number] = open_member(self.path, self.manifest.members[number])
            # What was read of it before was checked then; `open_member` has checked that it is the same file.
            self._opened[number]._checked = self._seen.setdefault(number, self._opened[number]._checked)
            if len(self._opened) > OPEN:
                self._opened.popitem(last=False)[1].close()
        return self._opened[number]


def members_of(path: Path) -> list[Path]:
    """The embedding files that a path names: those of a collection, those in another folder, or itself."""
    if not path.is_dir():
        return [path.resolve()]
    if not (path / names.COLLECTION).is_file() and (found := names.embedding_files(path)):
        return [file.resolve() for file in found]
    return [(path / member.file).resolve() for member in Manifest.read(path).members]


def open_member(folder: Path, member: Member) -> EmbeddingFile:
    """Open a member, if it is the file that was collected."""
    if not (folder / member.file).is_file():
        raise EmbeddingFileError(f"{folder} is not whole: its member {member.file} is missing. Put it back.")
    file = EmbeddingFile(folder / member.file)
    if (file.content_sha256, len(file)) != (member.content_sha256, member.images):
        file.close()
        raise EmbeddingFileError(
            f"{folder} is damaged: its member {member.file} is not the file that was collected. Put that one back, or "
            "collect this one again."
        )
    return file


def united(ids: list[npt.NDArray[np.bytes_]], where: Sequence[object]) -> tuple[Ids, npt.NDArray[np.int64]]:
    """All ids, and where each file's begin and the last one's end; an EmbeddingFileError if an image is in two files.

    `ids` is left empty: the index takes as much memory.
    """
    starts = np.cumsum([0, *map(len, ids)])
    found = Ids(np.concatenate(ids))
    ids.clear()
    if len(doubled := found.twice):
        one, other = (where[int(np.searchsorted(starts, row, "right")) - 1] for row in doubled)
        image_id = str(found.decoded(slice(doubled[0], doubled[0] + 1))[0])
        raise EmbeddingFileError(
            f"image {image_id!r} is in {one} and in {other}; in a collection each image has one row. `cxrfeat cache "
            "merge` joins files that share images."
        )
    return found, starts
