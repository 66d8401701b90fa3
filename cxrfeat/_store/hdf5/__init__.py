"""Embedding files as HDF5, versions 1 and 2 (docs/embedding-file.md): a `Store`. Only this package imports h5py."""

from cxrfeat._store.hdf5.salvage import damage_outside, open_damaged
from cxrfeat._store.hdf5.table import HDF5Table as open_sound
from cxrfeat._store.hdf5.writer import write

__all__ = ["damage_outside", "open_damaged", "open_sound", "write"]
