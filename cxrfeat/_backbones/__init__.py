"""The frozen networks, their weights, and the engines that run them."""

from cxrfeat._backbones.engine import Engine, open_engine
from cxrfeat._backbones.registry import BACKBONES, Backbone
from cxrfeat._backbones.weights import weights_for

__all__ = ["BACKBONES", "Backbone", "Engine", "open_engine", "weights_for"]
