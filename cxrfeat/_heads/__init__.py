"""What maps an embedding to one probability per label.

Names are imported when they are first used, so that a logistic head waits for neither scikit-learn nor TensorFlow.
"""

from typing import TYPE_CHECKING

import lazy_loader as _lazy

if TYPE_CHECKING:
    from cxrfeat._heads.base import Head as Head
    from cxrfeat._heads.fit import fit_head as fit_head
    from cxrfeat._heads.fit import resumable as resumable
    from cxrfeat._heads.prediction import load_head as load_head
    from cxrfeat._heads.prediction import predict as predict

_HOME = {"base": ["Head"], "fit": ["fit_head", "resumable"], "prediction": ["load_head", "predict"]}
__getattr__, __dir__, __all__ = _lazy.attach(__name__, submod_attrs=_HOME)
