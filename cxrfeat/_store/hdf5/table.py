"""An HDF5 file open for reading: its header, and one pass of one block at a time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._store.hdf5 import schema
from cxrfeat._store.rows import BLOCK, Header, decode_texts


class HDF5Table:
    """A `Table` of HDF5; `raw` gives the bytes instead of the file's, `limit` of them, where it was cut short."""

    def __init__(self, path: Path, raw: io.RawIOBase | None = None, limit: int | None = None) -> None:
        self.path, self.problems = path, list[str]()
        self._file = schema.open_file(path, raw)
        with schema.closing_on_error(self._file, path):
            self._data = schema.datasets(self._file, path, path.stat().st_size if limit is None else limit)
            self.block_sha256 = self._whole("block_sha256")
            self.sha256 = {name: self._text(f"{name}_sha256") for name in ("recipe", "provenance", "content")}
            shape = self._data["embeddings"].shape
            self._read = np.zeros((shape[0], -(-shape[1] // BLOCK)), bool)
            failures = self._whole("failures")
            columns = (decode_texts(failures[name]).tolist() for name in ("image_id", "path", "reason"))
            self.header = Header(
                recipe=self._text("recipe"),
                provenance=self._text("provenance"),
                shape=shape,
                ids=self._whole("image_id"),
                image_sha256=self._whole("image_sha256"),
                failures=list(zip(*columns, strict=True)),
            )

    def read(self, pass_: int, block: int, out: npt.NDArray[np.float32]) -> None:
        """Read one pass of one block to `out`; HDF5 checks its own checksum the first time.

        After that the stored bytes are taken as they are, which is five times as fast: heads read a file many times.
        """
        start, stop, data = block * BLOCK, block * BLOCK + len(out), self._data["embeddings"]
        try:
            if self._read[pass_, block]:
                chunk = np.empty(data.dtype.itemsize * data.chunks[1] * data.chunks[2] + 4, np.uint8)
                data.id.read_direct_chunk((pass_, start, 0), out=chunk)
                out[...] = chunk[:-4].view(data.dtype).reshape(data.chunks[1:])[: len(out)]
            elif data.dtype == out.dtype:
                data.read_direct(out, np.s_[pass_, start:stop], np.s_[:])
            else:  # NumPy converts faster than HDF5
                out[...] = data[pass_, start:stop]
            self._read[pass_, block] = True
        except schema.HDF5_ERRORS as error:
            where = f"rows {start} to {stop - 1} of pass {pass_}"
            raise schema.damaged(self.path, error, where) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _whole(self, name: str) -> npt.NDArray[Any]:
        try:
            return np.asarray(self._data[name][...])
        except schema.HDF5_ERRORS as error:
            raise schema.damaged(self.path, error, f"/{name}") from error

    def _text(self, name: str) -> str:
        return schema.text(self._file, name, self.path)
