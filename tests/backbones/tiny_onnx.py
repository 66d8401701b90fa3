"""Small ONNX networks with random values: a vision transformer with registers, and a convolutional one."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIZE, PATCH, DIM, HEADS, SPECIAL = 32, 8, 16, 2, 3


class Net:
    """A graph as it is written down."""

    def __init__(self, seed=0, prefix=""):
        self.random, self.prefix = np.random.default_rng(seed), prefix
        self.nodes, self.values, self.count = [], [], 0

    def add(self, kind, inputs, name="", **attributes):
        self.count += 1
        name = name or f"{self.prefix}{kind}_{self.count}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{name}/node", **attributes))
        return name

    def value(self, values):
        self.count += 1
        name = f"{self.prefix}v{self.count}"
        self.values.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weights(self, *shape, scale=0.3):
        return self.value((self.random.standard_normal(shape) * scale).astype(np.float32))

    def model(self, shape, outputs, opset=17):
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.values,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def vit(seed=0, prefix="", batch="batch", size=SIZE):
    """Class token, two registers, then patches; the outputs are all tokens, the pooled class token and logits."""
    net = Net(seed, prefix)
    cells = size // PATCH

    def linear(x, into, out):
        return net.add("Add", [net.add("MatMul", [x, net.weights(into, out)]), net.weights(out)])

    def norm(x, name=""):
        scale = net.value((1 + net.random.standard_normal(DIM) * 0.1).astype(np.float32))
        return net.add("LayerNormalization", [x, scale, net.weights(DIM)], name, axis=-1, epsilon=1e-6)

    def heads(x, perm):
        x = net.add("Reshape", [x, net.value(np.array([0, -1, HEADS, DIM // HEADS]))])
        return net.add("Transpose", [x], perm=perm)

    x = net.add("Conv", ["pixel_values", net.weights(DIM, 3, PATCH, PATCH, scale=0.1), net.weights(DIM)],
                kernel_shape=[PATCH, PATCH], strides=[PATCH, PATCH])  # fmt: skip
    x = net.add("Reshape", [x, net.value(np.array([0, DIM, -1]))])
    x = net.add("Transpose", [x], perm=[0, 2, 1])
    x = net.add("Concat", [net.weights(1, SPECIAL, DIM), x], axis=1)
    x = net.add("Add", [x, net.weights(1, SPECIAL + cells**2, DIM)])
    y = norm(x)
    q, k, v = (heads(linear(y, DIM, DIM), perm) for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    a = net.add("Softmax", [net.add("MatMul", [q, k])], axis=-1)
    a = net.add("Transpose", [net.add("MatMul", [a, v])], perm=[0, 2, 1, 3])
    a = net.add("Reshape", [a, net.value(np.array([0, -1, DIM]))])
    x = net.add("Add", [x, linear(a, DIM, DIM)])
    y = linear(norm(x), DIM, 2 * DIM)
    gelu = net.add("Erf", [net.add("Div", [y, net.value(np.float32(np.sqrt(2)))])])
    gelu = net.add("Mul", [y, net.add("Add", [gelu, net.value(np.float32(1))])])
    x = net.add("Add", [x, linear(net.add("Mul", [gelu, net.value(np.float32(0.5))]), 2 * DIM, DIM)])
    tokens = norm(x, f"{prefix}last_hidden_state")
    first = net.add("Gather", [tokens, net.value(np.array(0))], f"{prefix}pooler_output", axis=1)
    net.add("MatMul", [first, net.weights(DIM, 5)], f"{prefix}logits")
    return net.model([batch, 3, size, size], [tokens, first, f"{prefix}logits"])


def convolutional(seed=0, side="side", last=False):
    """Two convolutions and a pooling, input of any size; channels first, or last as TensorFlow's exporter makes it."""
    net = Net(seed)
    x = net.add("Transpose", ["pixel_values"], perm=[0, 3, 1, 2]) if last else "pixel_values"
    x = net.add("Conv", [x, net.weights(8, 3, 3, 3), net.weights(8)], pads=[1, 1, 1, 1], strides=[2, 2])
    x = net.add("MaxPool", [net.add("Relu", [x])], kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("Conv", [x, net.weights(12, 8, 3, 3)], auto_pad="SAME_UPPER", strides=[2, 2])
    x = net.add("Relu", [x], "features" if not last else "")
    if last:
        net.add("Transpose", [x], "features", perm=[0, 2, 3, 1])
    return net.model(["n", side, side, 3] if last else ["n", 3, side, side], ["features"])
