"""Files at addresses (`s3://`, `gs://`, `az://`, `https://`): the one package that knows them.

`address` says what an address is and keeps credentials out of it; it needs no package, and everything that takes a path
uses it. `transfer` reads, lists and writes through fsspec, and is imported only where there is an address. `copies`
keeps local copies of what cannot be read piece by piece.
"""

from cxrfeat._remote.address import Place, Url, clean, clean_text, is_remote, join, local, place, readers, sha256

__all__ = ["Place", "Url", "clean", "clean_text", "is_remote", "join", "local", "place", "readers", "sha256"]
