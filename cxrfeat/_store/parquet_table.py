"""Embeddings in a Parquet table that another tool wrote: a column of lists, and one of ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from cxrfeat._store import rows
from cxrfeat._store.parquet import ERRORS, pa, pq, short
from cxrfeat.errors import CxrfeatError, EmbeddingFileError


def read_table(path: Path, column: str | None, limit: int) -> tuple[npt.NDArray[Any], list[str] | None]:
    """Read another tool's table: embeddings (n, dim), and the ids of a column `image_id` if there is one.

    Embeddings are the `column` named, else `embedding`, else the only one with lists of numbers. What would take more
    than `limit` bytes is refused before it is read.
    """
    import pyarrow.compute as pc

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
