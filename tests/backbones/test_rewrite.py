"""Rewritten networks compute what they did, by ONNX's reference implementation, and spare what they are to spare."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cxrfeat._backbones.rewrite import PARTS, rewrite

RNG = np.random.default_rng(0)


class Build:
    """A small network, node by node; `image` is (1, 3, 8, 8)."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, values):
        self.constants.append(numpy_helper.from_array(np.asarray(values), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, kind, *inputs, **attributes):
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def conv(self, x, before, after, kernel=1, **attributes):
        weights = self.constant(RNG.normal(size=(after, before, kernel, kernel)).astype(np.float32))
        return self.add("Conv", x, weights, **attributes)

    def norm(self, x, channels):
        values = [RNG.uniform(0.5, 2, channels).astype(np.float32) for _ in range(4)]
        return self.add("BatchNormalization", x, *[self.constant(v) for v in values], epsilon=1e-3)

    def pad(self, x, amount):
        return self.add("Pad", x, self.constant(np.array([0, 0, amount, amount] * 2, np.int64)))

    def model(self, *outputs):
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None, None]) for name in outputs]
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
        net = helper.make_graph(self.nodes, "net", [image], infos, self.constants)
        model = helper.make_model(net, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def same(model):
    """Rewrite, compare with the original on an image of both signs, and count the kinds of nodes left."""
    found = rewrite(model)
    onnx.checker.check_model(found)
    image = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    before, after = (ReferenceEvaluator(m).run(None, {"image": image}) for m in (model, found))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * np.abs(a).max())
    return Counter(node.op_type for node in found.graph.node)


def test_zeros_around_a_tensor_become_the_convolutions_padding():
    net = Build()
    found = net.conv(net.pad("image", 2), 3, 4, kernel=3, pads=[1, 1, 1, 1], strides=[2, 2])
    assert "Pad" not in same(net.model(found))


def test_zeros_around_a_rectified_tensor_become_the_maximums_padding():
    net = Build()
    found = net.add("MaxPool", net.pad(net.add("Relu", "image"), 1), kernel_shape=[3, 3], strides=[2, 2])
    assert "Pad" not in same(net.model(found))


def test_a_maximum_of_what_may_be_negative_keeps_its_zeros():
    net = Build()
    negative = net.add("Neg", net.add("Relu", "image"))
    found = net.add("MaxPool", net.pad(negative, 1), kernel_shape=[3, 3], strides=[2, 2])
    assert same(net.model(found))["Pad"] == 1


def test_a_window_of_padding_alone_keeps_its_zeros():
    net = Build()
    found = net.add("MaxPool", net.pad(net.add("Relu", "image"), 2), kernel_shape=[2, 2], strides=[2, 2])
    assert same(net.model(found))["Pad"] == 1


def test_an_average_goes_before_a_pointwise_convolution():
    net = Build()
    model = net.model(net.add("AveragePool", net.conv("image", 3, 5), kernel_shape=[2, 2], strides=[2, 2]))
    same(model)
    assert [node.op_type for node in rewrite(model).graph.node] == ["AveragePool", "Conv"]


@pytest.mark.parametrize("case", ["wide kernel", "stride", "padded", "needed elsewhere"])
def test_other_convolutions_stay_before_the_average(case):
    net = Build()
    kernel, options = {
        "wide kernel": (3, {}),
        "stride": (1, {"strides": [2, 2]}),
        "padded": (1, {"pads": [1, 1, 1, 1]}),
        "needed elsewhere": (1, {}),
    }[case]
    convolved = net.conv("image", 3, 5, kernel=kernel, **options)
    averaged = net.add("AveragePool", convolved, kernel_shape=[2, 2], strides=[2, 2])
    model = net.model(*([averaged, convolved] if case == "needed elsewhere" else [averaged]))
    same(model)
    assert [node.op_type for node in rewrite(model).graph.node] == ["Conv", "AveragePool"]


@pytest.mark.parametrize("layers", [1, PARTS - 1, PARTS, 2 * PARTS + 1])
def test_a_dense_block_is_rectified_in_parts(layers):
    net, x, channels = Build(), "image", 3
    x = net.add("Relu", x)
    for _ in range(layers):
        new = net.conv(net.add("Relu", net.norm(x, channels)), channels, 2)
        x = net.add("Concat", x, new, axis=1)
        channels += 2
    kinds = same(net.model(net.add("Relu", net.norm(x, channels))))
    # One concatenation for each reader after the first, and one for each PARTS parts that were joined.
    assert kinds["Concat"] == layers + layers // PARTS


def test_a_concatenation_that_is_an_output_stays():
    net = Build()
    x = net.add("Concat", "image", net.conv("image", 3, 2), axis=1)
    assert same(net.model(x, net.add("Relu", net.norm(x, 5))))["Concat"] == 2
