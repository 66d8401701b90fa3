"""The frozen networks, their weights, and the engines that run them."""

from cxrfeat.backbones.choice import open_engine
from cxrfeat.backbones.engine import Engine
from cxrfeat.backbones.identity import weights_for
from cxrfeat.backbones.registry import BACKBONES, Backbone

__all__ = ["BACKBONES", "Backbone", "Engine", "open_engine", "weights_for"]
