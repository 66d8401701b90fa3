"""cxrfeat: from a folder of chest X-rays to a multi-label classifier that can be trusted, in two stages.

Everything public is a name of this module; `__init__.pyi` says where each comes from. Nothing is imported before it is
used. Not a medical device.
"""

import os as _os

import lazy_loader as _lazy

# TensorFlow otherwise prints a page about this machine when it is imported.
_os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

__version__ = "0.1.0.dev0"
__all__ += ["__version__"]
