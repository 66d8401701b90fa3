"""The radiologists' boxes of ChestX-ray14: `BBox_List_2017.csv` to a plain table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cxrfeat._labels import canonical
from cxrfeat.errors import NotFoundError, StudyError

FILE = "BBox_List_2017.csv"
SIDE = 1024
"""The boxes are in pixels of square images of this side, whatever size the images at hand have."""


def read(source: str | Path) -> pd.DataFrame:
    """Read the box list.

    The released header is `Image Index,Finding Label,Bbox [x,y,w,h],,,`: the four numbers are told by their place,
    and the columns after them are empty. `Infiltrate` is read as `Infiltration`.

    Parameters
    ----------
    source : str or Path
        The file, or the release folder it lies in.

    Returns
    -------
    pandas.DataFrame
        `image_id`, `label`, and float64 `x`, `y` (the upper left corner), `width`, `height`, in pixels of the
        1024 x 1024 originals. One row per box; an image may have several.

    Raises
    ------
    NotFoundError
        If there is no such file.
    StudyError
        If it has fewer than six columns or a box is not four numbers with a positive size.
    """
    path = Path(source)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise NotFoundError(f"there is no box list {path}.")
    try:
        raw = pd.read_csv(path, header=None, skiprows=1, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        raise StudyError(f"{path} is not a CSV table: {str(error).strip().splitlines()[0]}.") from error
    if raw.shape[1] < 6:
        raise StudyError(f"{path} has {raw.shape[1]} columns; a box list has image, finding, x, y, width and height.")
    boxes = raw.iloc[:, :6].set_axis(["image_id", "label", "x", "y", "width", "height"], axis=1)
    numbers = boxes.columns[2:]
    boxes[numbers] = boxes[numbers].apply(pd.to_numeric, errors="coerce").astype(float)
    values = boxes[numbers].to_numpy()
    bad = ~np.isfinite(values).all(axis=1) | (values[:, 2:] <= 0).any(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise StudyError(
            f"{path}, row {row + 2}: a box is four numbers x, y, width, height with a positive size, "
            f"not {', '.join(raw.iloc[row, 2:6])}."
        )
    boxes["label"] = boxes["label"].map(canonical)
    return boxes
