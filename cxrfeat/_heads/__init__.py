"""What maps an embedding to one probability per label.

Names are imported when they are first used, so that a logistic head waits for neither scikit-learn nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxrfeat._heads.files import load_head
    from cxrfeat._heads.fit import fit_head
    from cxrfeat._heads.head import Head
    from cxrfeat._heads.logistic import MultiLabelLogistic
    from cxrfeat._heads.prediction import predict

_HOME = {
    "fit_head": "fit",
    "load_head": "files",
    "predict": "prediction",
    "Head": "head",
    "MultiLabelLogistic": "logistic",
}

__all__ = ["Head", "MultiLabelLogistic", "fit_head", "load_head", "predict"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
