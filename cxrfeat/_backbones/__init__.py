"""The frozen networks, their weights, and the engines that run them."""

from cxrfeat._backbones.choice import open_engine
from cxrfeat._backbones.engine import Engine
from cxrfeat._backbones.identity import weights_for
from cxrfeat._backbones.registry import BACKBONES, Backbone

__all__ = ["BACKBONES", "Backbone", "Engine", "open_engine", "weights_for"]
