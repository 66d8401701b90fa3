"""The embedding file: one study, one recipe, one file.

`protocols` says what a journal and a published file are; `journal` and `hdf5` are the ones there are. h5py is imported
when a file is opened for the first time, not when this package is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxrfeat._store.embedding_file import EmbeddingFile
    from cxrfeat._store.writer import Writer

_HOME = {"EmbeddingFile": "embedding_file", "Writer": "writer"}
__all__ = ["EmbeddingFile", "Writer"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
