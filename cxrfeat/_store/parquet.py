"""Embedding files as Parquet, for other tools and for shards: a `Store`. pyarrow is imported here.

A row is one image in one pass, with `image_id` (text), `pass` (int32), `image_sha256` (32 bytes) and `embedding` (a
fixed-size list of float32). A row group has one pass of a few blocks of rows, so that a reader of pass 0 skips the
others. What the HDF5 file says beside its rows is in the metadata, under `cxrfeat.*`, with the same hashes: a file of
either format has the same `content_sha256` (docs/embedding-file.md). `read_table` takes what other tools wrote.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._store import disk, rows
from cxrfeat._store.rows import BLOCK, Header
from cxrfeat.errors import CxrfeatError, EmbeddingFileError, MissingExtraError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingExtraError("Parquet", "parquet") from error

GROUP = 16 << 20  # bytes of embeddings in a row group, at most, and not more than 16 blocks
BESIDE = ["image_id", "image_sha256"]
ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError)


def write(
    path: Path, header: Header, stretches: Iterable[npt.NDArray[np.float32]], passes: Sequence[int] | None = None
) -> None:
    """Write a new file, and bring it to the disk; see `Store`. Memory stays at one row group of each pass.

    Of a file of some `passes` only, one without pass 0 is a table for other tools, and no embedding file.
    """
    count, n, dim = header.shape
    passes = range(count) if passes is None else passes
    about = {
        "format": rows.FORMAT,
        "format_version": str(rows.FORMAT_VERSION),
        "recipe": header.recipe,
        "recipe_sha256": rows.text_sha256(header.recipe),
        "provenance": header.provenance,
        "provenance_sha256": rows.text_sha256(header.provenance),
        "shape": json.dumps(header.shape),
        "id_bytes": str(header.ids.dtype.itemsize),
        "passes": json.dumps(list(passes)),
        "failures": json.dumps([list(row) for row in header.failures]),
    }
    schema = _schema(dim).with_metadata({f"cxrfeat.{key}": text for key, text in about.items()})
    table = np.zeros((1 + count, -(-n // BLOCK), 32), np.uint8)
    room, held, start = np.empty((count, min(n, _group(dim)), dim), "<f4"), 0, 0
    with disk.DiskFile(path) as raw:
        options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "version": "2.6"}
        with pq.ParquetWriter(raw, schema, write_statistics=["image_id", "pass"], **options) as out:
            for stretch in stretches:
                at = 0
                while at < stretch.shape[1]:
                    taken = min(stretch.shape[1] - at, room.shape[1] - held)
                    room[:, held : held + taken] = stretch[:, at : at + taken]
                    at, held = at + taken, held + taken
                    if held == room.shape[1]:
                        _add(out, schema, header, room, start, passes, table)
                        start, held = start + held, 0
                raw.check()
            if held:
                _add(out, schema, header, room[:, :held], start, passes, table)
            if start + held != n:
                raise EmbeddingFileError(f"{start + held} rows were written where {n} were announced.")
            hashes = {
                "content_sha256": header.content_sha256(table),
                "block_sha256": base64.b64encode(table.tobytes()).decode(),
            }
            out.add_key_value_metadata({f"cxrfeat.{key}": text for key, text in hashes.items()})
        raw.sync()


class ParquetTable:
    """A `Table` of Parquet. It keeps the row group last read of each pass, since blocks are read in order."""

    def __init__(self, path: Path) -> None:
        self.path, self.problems = path, list[str]()
        try:
            self._file = pq.ParquetFile(path)
        except ERRORS as error:
            raise EmbeddingFileError(f"{path} is not a Parquet file, or is damaged ({short(error)}).") from error
        try:
            self._open()
        except BaseException as error:
            self.close()
            if isinstance(error, ERRORS) and not isinstance(error, CxrfeatError):
                raise EmbeddingFileError(f"{path} is damaged: {short(error)}.") from error
            raise

    def read(self, pass_: int, block: int, out: npt.NDArray[np.float32]) -> None:
        """Read one pass of one block to `out`."""
        group, within = divmod(block, self._blocks)
        if self._kept.get(pass_, (-1, None))[0] != group:
            try:
                column = self._column(group * self.header.shape[0] + pass_, ["embedding"]).column(0).chunk(0)
                values = column.flatten().to_numpy().reshape(-1, self.header.shape[2])
            except ERRORS as error:
                raise rows.damaged(self.path, f"row group {group} of pass {pass_}: {short(error)}") from error
            self._kept[pass_] = group, values
        out[...] = self._kept[pass_][1][within * BLOCK : within * BLOCK + len(out)]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._kept: dict[int, tuple[int, npt.NDArray[np.float32]]] = {}

    def other_rows(self) -> list[int]:
        """Row groups whose ids, passes or image hashes are not those of the same images in pass 0."""
        passes, n, _ = self.header.shape
        size, found = self._blocks * BLOCK, []
        for number in range(self._file.num_row_groups):
            part = slice(number // passes * size, min((number // passes + 1) * size, n))
            ids, hashes = self._beside(number, self.header.ids.dtype.itemsize)
            wrong = (ids != self.header.ids[part]).any() or (hashes != self.header.image_sha256[part]).any()
            if wrong or set(self._column(number, ["pass"]).column(0).to_pylist()) != {number % passes}:
                found.append(number)
        return found

    def _open(self) -> None:
        about = self._file.metadata.metadata or {}
        said = {key.decode()[8:]: text.decode() for key, text in about.items() if key.startswith(b"cxrfeat.")}
        if said.get("format") != rows.FORMAT:
            raise EmbeddingFileError(
                f"{self.path} is Parquet, but not an embedding file of cxrfeat. `cxrfeat cache import` takes it if you "
                "give its `backbone`, `weights` and `preprocessing`."
            )
        if said["format_version"] != str(rows.FORMAT_VERSION):
            raise EmbeddingFileError(
                f"{self.path} has format version {said['format_version'][:20]}; this cxrfeat reads version "
                f"{rows.FORMAT_VERSION}. Upgrade cxrfeat, or export it again."
            )
        passes, n, dim = (int(axis) for axis in json.loads(said["shape"]))
        listed = json.loads(said["passes"])
        if not (1 <= passes <= rows.MAX_PASSES and n >= 0 and 1 <= dim <= rows.MAX_DIM):
            raise EmbeddingFileError(f"{self.path}: embeddings of shape {(passes, n, dim)} are no embeddings.")
        if listed != list(range(passes)):
            raise EmbeddingFileError(
                f"{self.path} has {'pass' if len(listed) == 1 else 'passes'} {', '.join(map(str, listed))} of its "
                "recipe; an embedding file has pass 0 and those after it. Export these."
            )
        self._blocks, self._kept = _group(dim) // BLOCK, {}
        self._check((passes, n, dim))
        width, groups = int(said["id_bytes"]), range(0, self._file.num_row_groups, passes)
        if not 1 <= width <= rows.MAX_ID:
            raise EmbeddingFileError(f"{self.path} is damaged: ids of {width} bytes.")
        none = np.empty(0, f"S{width}"), np.empty((0, 32), np.uint8)
        ids, hashes = zip(none, *(self._beside(number, width) for number in groups), strict=True)
        table = np.frombuffer(base64.b64decode(said["block_sha256"]), np.uint8)
        self.block_sha256 = table.reshape(1 + passes, -(-n // BLOCK), 32)
        self.sha256 = {name: said[f"{name}_sha256"] for name in ("recipe", "provenance", "content")}
        self.header = Header(
            recipe=said["recipe"],
            provenance=said["provenance"],
            shape=(passes, n, dim),
            ids=np.concatenate(ids),
            image_sha256=np.concatenate(hashes),
            failures=[(str(i), str(p), str(r)) for i, p, r in json.loads(said["failures"])],
        )
        limits = rows.MAX_ID, rows.MAX_PATH, rows.MAX_REASON
        if any(
            len(text.encode()) > limit for row in self.header.failures for text, limit in zip(row, limits, strict=True)
        ):
            raise EmbeddingFileError(f"{self.path} is damaged: a text of its failures is too long.")

    def _check(self, shape: tuple[int, int, int]) -> None:
        """Refuse what is not as `write` makes it, before memory is taken: all sizes are then below the file's."""
        passes, n, dim = shape
        about, size, stored = self._file.metadata, self._blocks * BLOCK, 0
        if about.num_row_groups != -(-n // size) * passes:
            raise EmbeddingFileError(f"{self.path} is damaged: it has {about.num_row_groups} row groups.")
        sizes = [min(size, n - start) for start in range(0, n, size) for _ in range(passes)]
        if self._file.schema_arrow.remove_metadata() != _schema(dim) or n * passes != about.num_rows:
            raise EmbeddingFileError(f"{self.path} is damaged: its columns are not those of an embedding file.")
        if [about.row_group(k).num_rows for k in range(about.num_row_groups)] != sizes:
            raise EmbeddingFileError(f"{self.path} is damaged: its row groups are not one pass of {size} rows each.")
        for k, count in enumerate(sizes):
            columns = [about.row_group(k).column(c) for c in range(4)]
            stored += sum(column.total_compressed_size for column in columns)
            plain = all(c.compression == "UNCOMPRESSED" and {*c.encodings} <= {"PLAIN", "RLE"} for c in columns)
            if not plain or columns[3].total_compressed_size < 4 * dim * count:
                raise EmbeddingFileError(f"{self.path}: row group {k} is compressed, encoded or too short.")
        if stored > self.path.stat().st_size:
            raise EmbeddingFileError(f"{self.path} is damaged: its columns are longer than the file.")

    def _column(self, group: int, columns: list[str]) -> pa.Table:
        return self._file.read_row_group(group, columns, use_threads=False).combine_chunks()

    def _beside(self, group: int, width: int) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.uint8]]:
        """Ids and image hashes of a row group."""
        ids, hashes = (column.chunk(0) for column in self._column(group, BESIDE).columns)
        ends = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset : ids.offset + len(ids) + 1]
        lengths = np.diff(ends)
        if lengths.max(initial=0) > width:
            raise EmbeddingFileError(f"{self.path} is damaged: an id is longer than {width} bytes.")
        out = np.zeros((len(ids), width), np.uint8)
        out[np.arange(width) < lengths[:, None]] = np.frombuffer(ids.buffers()[2] or b"", np.uint8)[ends[0] : ends[-1]]
        flat = np.frombuffer(hashes.buffers()[1], np.uint8)[32 * hashes.offset :][: 32 * len(ids)]
        return out.view(f"S{width}")[:, 0], flat.reshape(-1, 32)


open_sound = open_damaged = ParquetTable


def damage_outside(path: Path) -> str:
    """Say which row groups other tools would join to other images than `EmbeddingFile` does."""
    table = ParquetTable(path)
    try:
        wrong = table.other_rows()
    except ERRORS as error:
        return short(error)
    finally:
        table.close()
    return f"ids, passes or image hashes of row groups {rows.some(map(str, wrong))} are other ones" if wrong else ""


def read_table(path: Path, column: str | None, limit: int) -> tuple[npt.NDArray[Any], list[str] | None]:
    """Read another tool's table: embeddings (n, dim), and the ids of a column `image_id` if there is one.

    Embeddings are the `column` named, else `embedding`, else the only one with lists of numbers. What would take more
    than `limit` bytes is refused before it is read.
    """
    try:
        # Ids as a dictionary: a long text that is stored once and named a million times takes memory once.
        dictionary = ["image_id"] if "image_id" in pq.read_schema(path).names else []
        with pq.ParquetFile(path, read_dictionary=dictionary) as file:
            found, about = file.schema_arrow, file.metadata
            lists = [name for name in found.names if _has_numbers(found.field(name).type)]
            name = column or ("embedding" if "embedding" in lists else lists[0] if len(lists) == 1 else "embedding")
            if name not in lists:
                others = f"; name one of {', '.join(lists)} with `array`" if lists else ""
                raise EmbeddingFileError(f"{path} has no column {name!r} with lists of floats{others}.")
            chunks = [
                about.row_group(k).column(c) for k in range(about.num_row_groups) for c in range(about.num_columns)
            ]
            size = sum(max(8 * chunk.num_values, chunk.total_uncompressed_size) for chunk in chunks)
            if size > limit:
                raise EmbeddingFileError(f"{path} would take {size:,} bytes; for its size, {limit:,} are read.")
            table = file.read([name, *({"image_id", "pass"} & {*found.names})]).combine_chunks()
        values = table.column(name).chunk(0) if table.num_rows else pa.array([], found.field(name).type)
        lengths = pc.list_value_length(values).unique().to_pylist()
        if len(lengths) != 1 or not lengths[0]:
            raise EmbeddingFileError(
                f"{path}: the lists of {name!r} are not all of one length; they are {lengths[:5]}."
            )
        if "pass" in found.names and len(table.column("pass").unique()) != 1:
            raise EmbeddingFileError(f"{path} has several passes. Give a table of one, or the file as it was exported.")
        ids = None
        if "image_id" in found.names:
            texts = table.column("image_id").chunk(0)
            if pa.types.is_dictionary(texts.type) and pc.max(pc.binary_length(texts.dictionary)).as_py() > rows.MAX_ID:
                raise EmbeddingFileError(f"{path} has an image_id of more than {rows.MAX_ID} bytes.")
            ids = [str(i) for i in texts.to_pylist()]
        return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), lengths[0]), ids
    except ERRORS as error:
        if isinstance(error, CxrfeatError):
            raise
        raise EmbeddingFileError(f"{path} is not a Parquet table, or is damaged: {short(error)}.") from error


def _has_numbers(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and pa.types.is_floating(kind.value_type)


def _add(
    out: pq.ParquetWriter,
    schema: pa.Schema,
    header: Header,
    embeddings: npt.NDArray[np.float32],
    start: int,
    passes: Sequence[int],
    table: npt.NDArray[np.uint8],
) -> None:
    """Write a row group of each pass, of rows from `start` on, and enter the hashes of their blocks."""
    stop = start + embeddings.shape[1]
    ids, hashes = header.ids[start:stop], np.ascontiguousarray(header.image_sha256[start:stop])
    beside = (
        pa.array(ids).cast(pa.string()),
        pa.Array.from_buffers(schema.field("image_sha256").type, len(ids), [None, pa.py_buffer(hashes)]),
    )
    for number, part in rows.blocks(len(ids)):
        table[0, start // BLOCK + number] = rows.digest(ids[part], hashes[part])
    for number, (pass_, values) in enumerate(zip(passes, embeddings, strict=True), start=1):
        for block, part in rows.blocks(len(ids)):
            table[number, start // BLOCK + block] = rows.digest(values[part])
        flat = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=schema.field("embedding").type)
        columns = [beside[0], pa.array(np.full(len(ids), pass_, np.int32)), beside[1], flat]
        out.write_table(pa.table(columns, schema=schema), row_group_size=len(ids))


def _schema(dim: int) -> pa.Schema:
    values = pa.list_(pa.field("element", pa.float32(), nullable=False), dim)
    types = {"image_id": pa.string(), "pass": pa.int32(), "image_sha256": pa.binary(32), "embedding": values}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


def _group(dim: int) -> int:
    """Rows of a row group: whole blocks."""
    return BLOCK * max(1, min(16, GROUP // (4 * dim * BLOCK)))


def short(error: BaseException) -> str:
    """The text of another package's error, in a line."""
    return " ".join(str(error).split())[:160]
