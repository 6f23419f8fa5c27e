"""For the Python programs inside tests/behaviour/*.sh: values computed without mpistill, and files made without it."""
import json
import struct

import h5py
import numpy as np
import onnx
import onnx.numpy_helper

BINS = 15


def close(got, wanted, tolerance, what):
    """Fails unless all values differ by at most tolerance * max(1, |wanted|)."""
    got, wanted = np.asarray(got, float), np.asarray(wanted, float)
    assert got.shape == wanted.shape, f"{what}: shape {got.shape}, expected {wanted.shape}"
    worst = np.max(np.abs(got - wanted) / np.maximum(1, np.abs(wanted)), initial=0)
    assert worst <= tolerance, f"{what}: off by {worst:.3g}, at most {tolerance:g} was expected"


def log_softmax(z, temperature=1.0):
    z = np.asarray(z, float) / temperature
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def metrics(logits, labels):
    """errors, accuracy, nll and ece (15 bins of equal width, open below) of the labelled rows."""
    keep = labels >= 0
    logits, labels = np.asarray(logits, float)[keep], labels[keep]
    log_p = log_softmax(logits)
    confidence, hit = np.exp(log_p.max(axis=1)), logits.argmax(axis=1) == labels
    ece = 0.0
    for b in range(BINS):
        inside = (confidence > b / BINS) & (confidence <= (b + 1) / BINS)
        if inside.any():
            ece += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    nll = -log_p[np.arange(len(labels)), labels].mean()
    return {"errors": int((~hit).sum()), "accuracy": hit.mean(), "nll": nll, "ece": ece}


def kd(teacher, student, temperature):
    """T^2 KL(teacher_T || student_T) of each row."""
    t, s = log_softmax(teacher, temperature), log_softmax(student, temperature)
    return temperature**2 * (np.exp(t) * (t - s)).sum(axis=1)


def combine(logits, weights, temperature, method):
    """What aggregate stores: T log(sum_k w_k softmax(z_k/T)), the largest of a row 0, or sum_k w_k z_k."""
    weights = np.asarray(weights, float) / np.sum(weights)
    if method == "logit-mean":
        return sum(w * np.asarray(z, float) for w, z in zip(weights, logits))
    mean = temperature * np.log(sum(w * np.exp(log_softmax(z, temperature)) for w, z in zip(weights, logits)))
    return mean - mean.max(axis=1, keepdims=True)


def inputs(dataset, split, name="image"):
    """What a model sees: [n, values a row], float32 steps as the format says."""
    with h5py.File(dataset, "r") as file:
        a = file[split][name]
        scale = np.asarray(a.attrs.get("scale", 1), np.float32)
        offset = np.asarray(a.attrs.get("offset", 0), np.float32)
        if scale.ndim or offset.ndim:
            shape = (1, -1) + (1,) * (a.ndim - 2)
            scale, offset = scale.reshape(shape) if scale.ndim else scale, offset.reshape(shape) if offset.ndim else offset
        return (a[...].astype(np.float32) * scale + offset).astype(float)


def labels(dataset, split):
    with h5py.File(dataset, "r") as file:
        return file[split]["label"][...].astype(int)


def weights(model):
    """The float initializers of an ONNX file in its order."""
    graph = onnx.load(str(model)).graph
    return [onnx.numpy_helper.to_array(t).astype(float) for t in graph.initializer]


def mlp(model, x):
    """Logits of a chain of Gemm (transB) and Relu, in double precision."""
    w = {t.name: onnx.numpy_helper.to_array(t).astype(float) for t in onnx.load(str(model)).graph.initializer}
    x = np.asarray(x, float).reshape(len(x), -1)
    for node in onnx.load(str(model)).graph.node:
        if node.op_type == "Gemm":
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            x = x @ (w[node.input[1]].T if transposed else w[node.input[1]]) + w[node.input[2]]
        elif node.op_type == "Relu":
            x = np.maximum(x, 0)
        else:
            assert node.op_type in ("Flatten", "Dropout", "Identity", "Constant"), node.op_type
    return x


def write_linear(path, weight, bias=None):
    """A model of one Gemm: weight [classes, values], bias [classes]."""
    weight = np.asarray(weight, np.float32)
    bias = np.zeros(len(weight), np.float32) if bias is None else np.asarray(bias, np.float32)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="linear", transB=1)], "linear",
        [value("x", onnx.TensorProto.FLOAT, ["N", weight.shape[1]])], [value("y", onnx.TensorProto.FLOAT, ["N", len(weight)])],
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(bias, "b")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def write_dataset(path, splits, classes=None, scale=None):
    """splits: {name: {array name: values}}; scale: {array name: (scale, offset)}."""
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = np.bytes_(b"mpistill-dataset"), 1
        for split, arrays in splits.items():
            for name, values in arrays.items():
                a = file.create_dataset(f"{split}/{name}", data=values)
                if name in (scale or {}):
                    a.attrs["scale"], a.attrs["offset"] = (np.asarray(v, np.float32) for v in scale[name])
        if classes:
            file["classes"] = np.array([c.encode() for c in classes])


def dataset_hash(path, split):
    """By the definition in src/store/dataset.h."""
    import xxhash

    with h5py.File(path, "r") as f:
        text = b""
        for name in sorted(f[split], key=str.encode):
            a = f[split][name]
            text += f"{name}\n{a.dtype}\n{','.join(map(str, a.shape))}\n".encode()
            data = a[...].tobytes()
            for i in range(0, len(data), 1 << 20):
                text += struct.pack("<Q", xxhash.xxh3_64_intdigest(data[i : i + (1 << 20)]))
    return "xxh3:%016x" % xxhash.xxh3_64_intdigest(text)


def write_soft_labels(path, logits, dataset, split="train", dtype=None, hash_text=None, **storage):
    """A file made elsewhere: no /blocks, and what h5py's create_dataset is told (chunks, compression)."""
    logits = np.asarray(logits)
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = "mpistill-softlabels", 1
        file.attrs["split"], file.attrs["encoding"] = split, "dense"
        if hash_text != "":
            file.attrs["dataset_hash"] = hash_text or dataset_hash(dataset, split)
        file.create_dataset("logits", data=logits if dtype is None else logits.astype(dtype), **storage)


def logits(path):
    """[n, C] as stored, of a dense file."""
    with h5py.File(path, "r") as file:
        return file["logits"][...]


def from_top_k(path, classes):
    """[n, C] of a top-k file: what is not among the K shares the rest evenly."""
    with h5py.File(path, "r") as file:
        index, kept, rest = file["topk/index"][...], file["topk/logit"][...], file["topk/rest"][...]
    k = index.shape[1]
    dense = np.full((len(index), classes), np.nan, kept.dtype)
    if k < classes:
        dense[:] = (rest - np.log(classes - k))[:, None]
    np.put_along_axis(dense, index.astype(int), kept, axis=1)
    return dense


def events(path, kind="epoch"):
    """The objects of a --log file with that event; every line must be one JSON object."""
    with open(path) as file:
        lines = [json.loads(line) for line in file]
    assert all(isinstance(line, dict) for line in lines)
    return [line for line in lines if line["event"] == kind]
