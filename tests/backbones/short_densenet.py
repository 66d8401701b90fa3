"""DenseNet121 with two layers a block: its kinds of layers, strides and places, and far less to open."""

import sys

from cxrfeat._backbones.registry import Backbone


def build(input_tensor, include_top, weights):
    import keras

    module = sys.modules[keras.applications.DenseNet121.__module__]
    return module.DenseNet([2, 2, 2, 2], include_top, weights, input_tensor, name="densenet_short")


SHORT = Backbone("densenet-short", build, dim=128, layer="relu", first_centre=14.0)
