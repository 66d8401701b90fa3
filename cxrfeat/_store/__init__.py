"""The embedding file: one study, one recipe, one file.

`journal` keeps rows until they are published, and `protocols` says what a published file is: `hdf5` and `parquet` are
the formats there are. h5py is imported when a file is opened for the first time, not when this package is.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from cxrfeat._store.embedding_file import EmbeddingFile as EmbeddingFile
    from cxrfeat._store.writer import Writer as Writer

_HOME = {"embedding_file": ["EmbeddingFile"], "writer": ["Writer"]}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOME)
