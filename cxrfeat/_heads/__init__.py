"""What maps an embedding to one probability per label.

Names are imported when they are first used, so that a logistic head waits for neither scikit-learn nor TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader as _lazy

if TYPE_CHECKING:
    from cxrfeat._heads.base import Head
    from cxrfeat._heads.fit import fit_head, resumable
    from cxrfeat._heads.prediction import load_head, predict
    from cxrfeat._heads.solver.estimator import MultiLabelLogistic

_HOME = {
    "base": ["Head"],
    "fit": ["fit_head", "resumable"],
    "prediction": ["load_head", "predict"],
    "solver.estimator": ["MultiLabelLogistic"],
}

__all__ = ["Head", "MultiLabelLogistic", "fit_head", "load_head", "predict", "resumable"]
__getattr__, __dir__, _ = _lazy.attach(__name__, submod_attrs=_HOME)
