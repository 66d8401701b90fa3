"""The frozen networks, their weights, and the engines that run them."""

import lazy_loader

# Lazily, so that a command's choices cost no numpy.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "engine": ["Engine", "open_engine"],
        "registry": ["BACKBONES", "Backbone"],
        "weights": ["weights_for"],
    },
)
