"""For tests of several tasks, dense outputs and numbers: small models of several outputs, and datasets for them."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import checks


def save(name, nodes, inputs, outputs, initializers, opset=13):
    """Shapes without the dimension for rows."""
    def infos(values):
        return [helper.make_tensor_value_info(k, TensorProto.FLOAT, ["N", *shape]) for k, shape in values.items()]

    held = [numpy_helper.from_array(v if v.dtype == np.int64 else v.astype(np.float32), k) for k, v in initializers.items()]
    graph = helper.make_graph(nodes, "heads", infos(inputs), infos(outputs), held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, name)


def weights(random, *shape):
    return random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])


def heads(name, input_name, shape, hidden, outputs, seed):
    """A hidden layer and one fully connected output for each {name: width}."""
    random = np.random.default_rng(seed)
    width = int(np.prod(shape))
    nodes = [helper.make_node("Flatten", [input_name], ["flat"]), helper.make_node("Gemm", ["flat", "w.hidden", "b.hidden"], ["sum"]),
             helper.make_node("Relu", ["sum"], ["hidden"])]
    held = {"w.hidden": weights(random, width, hidden), "b.hidden": np.zeros(hidden)}
    for output, n in outputs.items():
        nodes.append(helper.make_node("Gemm", ["hidden", "w." + output, "b." + output], [output]))
        held.update({"w." + output: weights(random, hidden, n), "b." + output: np.zeros(n)})
    save(name, nodes, {input_name: shape}, {output: [n] for output, n in outputs.items()}, held)


def pixels(name, channels, hidden, classes, side, seed):
    """Two convolutions: logits [N, classes, side, side]."""
    random = np.random.default_rng(seed)
    nodes = [helper.make_node("Conv", ["image", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["a"], ["r"]),
             helper.make_node("Conv", ["r", "w2", "b2"], ["logits"], pads=[0, 0, 0, 0])]
    save(name, nodes, {"image": [channels, side, side]}, {"logits": [classes, side, side]},
         {"w1": weights(random, hidden, channels, 3, 3), "b1": np.zeros(hidden), "w2": weights(random, classes, hidden, 1, 1),
          "b2": np.zeros(classes)})


def frames(name, length, width, hidden, classes, seed, last):
    """The same layers at each frame: logits [N, length, classes], or [N, classes, length]."""
    random = np.random.default_rng(seed)
    nodes = [helper.make_node("MatMul", ["sound", "w1"], ["a"]), helper.make_node("Relu", ["a"], ["r"]),
             helper.make_node("MatMul", ["r", "w2"], ["logits" if last else "z"])]
    if not last:
        nodes.append(helper.make_node("Transpose", ["z"], ["logits"], perm=[0, 2, 1]))
    save(name, nodes, {"sound": [length, width]}, {"logits": [length, classes] if last else [classes, length]},
         {"w1": weights(random, width, hidden), "w2": weights(random, hidden, classes)})


def anchors(name, width, hidden, n, classes, seed):
    """The raw head of a detector: logits of classes [N, n, classes] and boxes [N, n, 4]."""
    random = np.random.default_rng(seed)
    nodes = [helper.make_node("Gemm", ["image", "w.hidden", "b.hidden"], ["sum"]), helper.make_node("Relu", ["sum"], ["hidden"])]
    held = {"w.hidden": weights(random, width, hidden), "b.hidden": np.zeros(hidden)}
    outputs = {"class": classes, "box": 4}
    for output, values in outputs.items():
        nodes += [helper.make_node("Gemm", ["hidden", "w." + output, "b." + output], ["flat." + output]),
                  helper.make_node("Reshape", ["flat." + output, "shape." + output], [output])]
        held.update({"w." + output: weights(random, hidden, n * values), "b." + output: np.zeros(n * values),
                     "shape." + output: np.array([-1, n, values], np.int64)})
    save(name, nodes, {"image": [width]}, {output: [n, values] for output, values in outputs.items()}, held)


def digits(path, image, label):
    """Three tasks on the digits: what digit, even or odd where that is known, how much ink; and a vector of the same rows."""
    splits = {}
    for split in ("train", "test"):
        x, y = image[split], label[split].astype("i4")
        parity, ink = y % 2, (x.reshape(len(x), -1).mean(1) / 4).astype("f4")
        parity[::3], ink[::5] = -1, np.nan
        splits[split] = {"image": x, "vector": x.reshape(len(x), -1).astype("f4") / 16, "label.digit": y, "label.parity": parity,
                         "target.ink": ink.reshape(-1, 1)}
    checks.write_dataset(path, splits, scale={"image": (1 / 16, 0)})
