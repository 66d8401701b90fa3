"""Readers of public datasets, and of any CSV: their files to a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrfeat._study import Study


def read(
    source: str | Path,
    *,
    images: str | Path | None = None,
    columns: Mapping[str, Any] | None = None,
    **options: Any,
) -> Study:
    """Read whatever `source` is: a ChestX-ray14 release folder or label table, or any CSV.

    Parameters
    ----------
    source : str or Path
        The folder or file.
    images : str or Path, optional
        The image folder, where it is not beside the table.
    columns : mapping, optional
        What `datasets.table.read` is to be told of the columns: `image_id`, `path`, `patient`, `labels`,
        `findings_column`, `separator`, `split`. With it, the file is read as any CSV.
    **options
        `resplit`, `val`, `test`, `seed`, `skip_missing`, `tell` and `name`; see `datasets.options.Options`.

    Raises
    ------
    NotFoundError, StudyError, LeakageError
        As those two do.
    """
    from cxrfeat._datasets import nih, table

    source = Path(source)
    if not columns and (source.is_dir() or nih.is_table(source)):
        return nih.read(source, images if images is not None else "auto", **options)
    return table.read(source, images=images, **(columns or {}), **options)
