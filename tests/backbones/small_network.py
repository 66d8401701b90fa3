"""A network of a few plain convolutions, for tests of what happens around a network: it is built in no time."""

from cxrfeat._backbones.registry import Backbone


def build(input_tensor, include_top, weights, width=32):
    """Two convolutions with what our translation knows, all but the last without a name, so that Keras counts them."""
    from keras import Model, layers

    x = layers.Conv2D(width, 3, strides=2, use_bias=False)(layers.ZeroPadding2D(1)(input_tensor))
    x = layers.MaxPooling2D(2)(layers.Activation("relu")(layers.BatchNormalization()(x)))
    x = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(2 * width, 3, strides=4)(x)))
    return Model(input_tensor, layers.Conv2D(2 * width, 1, name="last")(x))


SMALL = Backbone("small", build, dim=64, layer="last", stride=16, first_centre=1.0)
