"""Writes the files that tests/behaviour/errors_*.sh give to the program, good ones and bad ones of one topic, into the current folder.

Usage: bad_inputs.py datasets|softlabels|models|imports
"""
import os
import struct
import sys

import h5py
import numpy as np

ROWS, CLASSES = 40, 10


def attribute(at, name, text):
    at.attrs[name] = np.bytes_(text)


def header(f, form="mpistill-dataset", version=1):
    attribute(f, "format", form)
    f.attrs["version"] = np.int64(version)


def image(rows=ROWS, seed=1):
    return np.random.default_rng(seed).integers(0, 17, (rows, 1, 8, 8), dtype=np.uint8)


def label(rows=ROWS):
    return (np.arange(rows) % CLASSES).astype(np.int32)


def dataset(name, arrays=None, splits=("train", "test"), classes=None, **head):
    """A dataset file of 40 rows; arrays replaces what is in every split, None leaves an array out."""
    with h5py.File(name, "w") as f:
        header(f, **head)
        for seed, split in enumerate(splits):
            for key, value in {"image": image(seed=seed), "label": label(), **(arrays or {})}.items():
                if value is None:
                    continue
                f.create_dataset(f"{split}/{key}", data=value)
        if classes is not None:
            f.create_dataset("classes", data=np.array(classes, "S"))


def floats(**cells):
    """[40, 64] float32 with values put at "row_column"."""
    x = image().reshape(ROWS, 64).astype(np.float32)
    for cell, value in cells.items():
        row, column = cell[1:].split("_")
        x[int(row), int(column)] = value
    return {"image": None, "x": x}


def labels(**rows):
    y = label()
    for row, value in rows.items():
        y[int(row[1:])] = value
    return {"label": y}


def cut(name, of, n):
    data = open(of, "rb").read()
    open(name, "wb").write(data[:n if n > 0 else len(data) + n])


def write(name, data):
    open(name, "wb").write(data if isinstance(data, bytes) else data.encode())


def make_datasets():
    dataset("good.h5")
    dataset("named.h5", classes=[f"digit{i}" for i in range(10)])
    dataset("twelve.h5", classes=[f"c{i}" for i in range(12)])
    write("empty.h5", b"")
    write("text.h5", "this is no HDF5 file\n" * 10)
    dataset("long.h5", floats())
    dataset("tall.h5", {"image": image(5000), "label": label(5000)})
    cut("cut.h5", "long.h5", -4096)
    cut("head.h5", "good.h5", 100)
    with h5py.File("no_format.h5", "w") as f:
        f.create_dataset("train/image", data=image())
        f.create_dataset("train/label", data=label())
    dataset("other_format.h5", form="somebody's-dataset")
    dataset("version9.h5", version=9)
    with h5py.File("no_version.h5", "w") as f:
        attribute(f, "format", "mpistill-dataset")
        f.create_dataset("train/image", data=image())
    with h5py.File("number_format.h5", "w") as f:
        f.attrs["format"] = 5
        f.attrs["version"] = 1
        f.create_dataset("train/image", data=image())
    dataset("train_only.h5", splits=["train"])
    dataset("no_splits.h5", splits=[])
    with h5py.File("loose.h5", "w") as f:
        header(f)
        f.create_dataset("image", data=image())
    with h5py.File("nested.h5", "w") as f:
        header(f)
        f.create_dataset("train/image/0", data=image())
    dataset("labels_only.h5", {"image": None})
    dataset("unequal.h5", {"label": label(39)})
    dataset("strings.h5", {"image": np.array([b"cat"] * ROWS)})
    dataset("compound.h5", {"image": np.zeros(ROWS, [("a", "f4"), ("b", "i4")])})
    dataset("doubles.h5", {"image": image().astype(np.float64)})
    dataset("big_endian.h5", {"image": image().astype(">f4")})
    dataset("uint64.h5", {"image": image().astype(np.uint64)})
    dataset("float_labels.h5", {"label": label().astype(np.float32)})
    dataset("no_rows.h5", {"image": image(0), "label": label(0)})
    dataset("scalar.h5", {"image": np.uint8(1)})
    dataset("deep.h5", {"image": np.zeros((ROWS,) + (1,) * 8, np.uint8)})
    dataset("nan.h5", floats(r7_11=np.nan))
    dataset("infinite.h5", floats(r39_63=-np.inf))
    dataset("label10.h5", labels(r23=10))
    dataset("label_minus2.h5", labels(r5=-2))
    dataset("label_big.h5", {"label": np.where(np.arange(ROWS) == 3, 2**40, np.arange(ROWS) % 10)})
    dataset("label_matrix.h5", {"label": np.zeros((ROWS, 2), np.int32)})
    dataset("no_label.h5", {"label": None})
    dataset("unlabelled.h5", {"label": np.full(ROWS, -1, np.int32)})
    dataset("two_inputs.h5", {"text": np.zeros((ROWS, 5), np.float32)})
    dataset("orphan_length.h5", {"sound.length": np.ones(ROWS, np.int32)})
    dataset("scales.h5")
    with h5py.File("scales.h5", "a") as f:
        f["train/image"].attrs["scale"] = np.array([1.0, 2.0, 3.0])
    dataset("nan_scale.h5")
    with h5py.File("nan_scale.h5", "a") as f:
        f["train/image"].attrs["scale"] = np.nan
    dataset("text_scale.h5")
    with h5py.File("text_scale.h5", "a") as f:
        attribute(f["train/image"], "scale", "1/255")
    dataset("outside.h5")
    with h5py.File("outside.h5", "a") as f:
        f["train/more"] = h5py.ExternalLink("good.h5", "/train/image")
    dataset("raw.h5")
    with h5py.File("raw.h5", "a") as f:
        f.create_dataset("train/more", (ROWS, 64), "u1", external=[("raw.bin", 0, h5py.h5f.UNLIMITED)])
    write("raw.bin", bytes(ROWS * 64))


def soft(name, dataset_hash, edit=None, logits=None, **attributes):
    """A dense soft-label file for good.h5; attributes replace those it has, None leaves one out."""
    if logits is None:
        logits = np.random.default_rng(3).normal(size=(ROWS, CLASSES)).astype(np.float32)
    with h5py.File(name, "w") as f:
        said = {"format": "mpistill-softlabels", "version": 1, "teacher": "t", "split": "train", "encoding": "dense",
                "dataset_hash": dataset_hash, **attributes}
        for key, value in said.items():
            if value is not None:
                f.attrs[key] = np.bytes_(value) if isinstance(value, str) else value
        if said["encoding"] != "topk":
            f.create_dataset("logits", data=logits)
        if edit:
            edit(f)


def top(index=None, logit=None, rest=None):
    def edit(f):
        n = np.tile(np.array([3, 1, 7], np.int32), (ROWS, 1)) if index is None else index
        f["topk/index"] = n
        f["topk/logit"] = np.ones(n.shape, np.float32) if logit is None else logit
        f["topk/rest"] = np.zeros(ROWS, np.float32) if rest is None else rest
    return edit


def top_index(value):
    n = np.tile(np.array([3, 1, 7], np.int32), (ROWS, 1))
    n[12, 2] = value
    return n


def blocks(done, checksum=None):
    def edit(f):
        f.attrs["block_rows"] = 8
        f["blocks/done"] = np.array(done, np.uint8)
        f["blocks/checksum"] = np.zeros(len(done), np.uint64) if checksum is None else checksum
    return edit


def spoiled(row, column, value):
    z = np.random.default_rng(3).normal(size=(ROWS, CLASSES)).astype(np.float32)
    z[row, column] = value
    return z


def names(*classes):
    def edit(f):
        f["classes"] = np.array(classes, "S")
    return edit


def make_softlabels():
    hashes = {line.split()[1]: line.split()[0] for line in open("good.h5.hash") if line.startswith("xxh3:")}
    good = hashes["train"]
    soft("soft.h5", good)
    soft("soft2.h5", good, teacher="t2")
    soft("other_dataset.h5", "xxh3:0123456789abcdef")
    soft("bad_hash.h5", "md5:0123")
    soft("no_hash.h5", None)
    soft("other_split.h5", hashes["test"], split="test")
    soft("no_split.h5", good, split=None)
    soft("unknown_split.h5", good, split="validation")
    soft("rows39.h5", good, logits=np.zeros((39, CLASSES), np.float32))
    soft("classes9.h5", good, logits=np.zeros((ROWS, 9), np.float32))
    soft("rank3.h5", good, logits=np.zeros((ROWS, CLASSES, 2), np.float32))
    soft("rank1.h5", good, logits=np.zeros(ROWS, np.float32))
    soft("integers.h5", good, logits=np.zeros((ROWS, CLASSES), np.int32))
    soft("nan_row.h5", good, logits=spoiled(17, 4, np.nan))
    soft("inf_row.h5", good, logits=spoiled(39, 9, np.inf))
    soft("for_temperature_2.h5", good, method="probability-mean", temperature=2.0)
    soft("bad_temperature.h5", good, temperature=-1.0)
    soft("encoding.h5", good, encoding="sparse")
    soft("no_encoding.h5", good, encoding=None)
    soft("not_soft.h5", good, format="mpistill-dataset")
    soft("version9s.h5", good, version=9)
    soft("top.h5", good, top(), encoding="topk", n_classes=10)
    soft("top10.h5", good, top(top_index(10)), encoding="topk", n_classes=10)
    soft("top_minus.h5", good, top(top_index(-1)), encoding="topk", n_classes=10)
    soft("top_twice.h5", good, top(top_index(3)), encoding="topk", n_classes=10)
    soft("top_no_classes.h5", good, top(), encoding="topk")
    soft("top_shapes.h5", good, top(logit=np.ones((ROWS, 4), np.float32)), encoding="topk", n_classes=10)
    soft("top_nan.h5", good, top(rest=np.where(np.arange(ROWS) == 2, np.nan, 0).astype(np.float32)), encoding="topk",
         n_classes=10)
    soft("unfinished.h5", good, blocks([1, 1, 0, 1, 0]))
    soft("blocks_shape.h5", good, blocks([1, 1]))
    soft("unknown_class.h5", good, names(*"abcdefghij"))
    soft("few_classes.h5", good, names("0", "1"))
    soft("class_twice.h5", good, names("0", "0", *"23456789"))
    soft("weights3.h5", good, teachers=np.array(["a", "b"], "S"), weights=np.ones(3))
    cut("cut_soft.h5", "soft.h5", -400)


def make_models():
    import onnx
    from onnx import TensorProto as T
    from onnx import helper as h
    from onnx import numpy_helper as nh

    def model(name, nodes, inputs=None, outputs=("y",), initializers=None, opset=13, imports=None, check=False):
        inputs = {"x": (T.FLOAT, ["N", 64])} if inputs is None else inputs
        values = {"w": np.full((64, 10), 0.01, np.float32), **(initializers or {})}
        g = h.make_graph(nodes, "g", [h.make_tensor_value_info(k, *v) for k, v in inputs.items()],
                         [h.make_tensor_value_info(k, T.FLOAT, None) for k in outputs],
                         [nh.from_array(v, k) for k, v in values.items()])
        m = h.make_model(g, opset_imports=imports or [h.make_opsetid("", opset)])
        m.ir_version = 8
        onnx.save(m, name)
        return m

    matmul = h.make_node("MatMul", ["x", "w"], ["y"], name="head")
    good = model("good.onnx", [matmul])
    write("garbage.onnx", bytes(range(256)) * 4)
    write("empty.onnx", b"")
    write("text.onnx", "not a model\n")
    cut("cut.onnx", "good.onnx", -300)
    write("nested.onnx", nest(10000))
    model("two_unknown.onnx", [h.make_node("Bernoulli", ["x"], ["a"], name="draw"), h.make_node("MatMul", ["a", "w"], ["b"]),
                               h.make_node("Fancy", ["b"], ["y"], name="finish", domain="com.example")],
          imports=[h.make_opsetid("", 15), h.make_opsetid("com.example", 1)])
    model("unknown_attribute.onnx", [h.make_node("MatMul", ["x", "w"], ["y"], name="head", speed=3)])
    model("no_import.onnx", [h.make_node("Fancy", ["x"], ["y"], name="finish", domain="com.example")])
    model("opset99.onnx", [matmul], opset=99)
    model("opset23.onnx", [matmul], opset=23)
    model("rms_norm.onnx", [h.make_node("RMSNormalization", ["x", "s"], ["a"], name="norm"), h.make_node("MatMul", ["a", "w"], ["y"])], opset=23,
          initializers={"s": np.ones(64, np.float32)})
    model("table.onnx", [h.make_node("Gather", ["t", "x"], ["a"], name="embed"), h.make_node("ReduceSum", ["a", "axis"], ["y"], keepdims=0)],
          inputs={"x": (T.INT64, ["N", 4])}, initializers={"t": np.eye(10, dtype=np.float32), "axis": np.array([1])})
    model("too_large.onnx", [h.make_node("Reshape", ["x", "s"], ["a"]), h.make_node("Tile", ["a", "r"], ["b"], name="grow"),
                             h.make_node("MatMul", ["b", "w"], ["c"]), h.make_node("ReduceMean", ["c"], ["y"], axes=[1], keepdims=0)],
          initializers={"s": np.array([-1, 1, 64]), "r": np.array([1, 1000000000, 1])})
    model("rounded.onnx", [h.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
                           h.make_node("MatMulInteger", ["q", "i", "z"], ["m"], name="product"), h.make_node("Cast", ["m"], ["f"], to=T.FLOAT),
                           h.make_node("Mul", ["f", "s"], ["a"]), h.make_node("Add", ["a", "b"], ["y"])],
          initializers={"i": np.ones((64, 10), np.int8), "b": np.zeros(10, np.float32)})
    model("opset0.onnx", [matmul], opset=0)
    model("old_clip.onnx", [h.make_node("Clip", ["x"], ["a"], name="clip", consumed_inputs=[1]), h.make_node("MatMul", ["a", "w"], ["y"])],
          opset=1)
    model("two_inputs.onnx", [h.make_node("Add", ["x", "z"], ["a"]), h.make_node("MatMul", ["a", "w"], ["y"])],
          inputs={"x": (T.FLOAT, ["N", 64]), "z": (T.FLOAT, ["N", 64])})
    model("no_inputs.onnx", [h.make_node("MatMul", ["v", "w"], ["y"])], inputs={}, initializers={"v": np.ones((1, 64), np.float32)})
    model("two_outputs.onnx", [matmul, h.make_node("Relu", ["y"], ["z"])], outputs=("y", "z"))
    model("no_output.onnx", [matmul], outputs=())
    model("lost_output.onnx", [matmul], outputs=("q",))
    model("bool_input.onnx", [h.make_node("Cast", ["x"], ["a"], to=T.FLOAT), h.make_node("MatMul", ["a", "w"], ["y"])],
          inputs={"x": (T.BOOL, ["N", 64])})
    model("input63.onnx", [matmul], inputs={"x": (T.FLOAT, ["N", 63])}, initializers={"w": np.zeros((63, 10), np.float32)})
    model("image3.onnx", [h.make_node("Flatten", ["x"], ["a"]), h.make_node("MatMul", ["a", "w"], ["y"])],
          inputs={"x": (T.FLOAT, ["N", 3, 8, 8])}, initializers={"w": np.zeros((192, 10), np.float32)})
    model("wrong_weight.onnx", [matmul], initializers={"w": np.zeros((65, 10), np.float32)})
    model("rank3.onnx", [matmul, h.make_node("Unsqueeze", ["y", "axis"], ["z"])], outputs=("z",),
          initializers={"axis": np.array([1])})
    model("classes12.onnx", [matmul], initializers={"w": np.zeros((64, 12), np.float32)})
    model("fixed_batch.onnx", [h.make_node("Reshape", ["x", "shape"], ["a"]), h.make_node("MatMul", ["a", "w"], ["y"])],
          inputs={"x": (T.FLOAT, [1, 64])}, initializers={"shape": np.array([1, 64])})
    model("no_parameter.onnx", [h.make_node("ReduceMean", ["x"], ["a"], axes=[1], keepdims=1), h.make_node("Concat", ["a"] * 10, ["y"], axis=1)])
    model("cycle.onnx", [h.make_node("Add", ["x", "b"], ["a"], name="first"), h.make_node("Relu", ["a"], ["b"], name="second"),
                         h.make_node("MatMul", ["b", "w"], ["y"])])
    model("lost_input.onnx", [h.make_node("MatMul", ["x", "missing"], ["y"], name="head")])
    model("strings_in.onnx", [matmul], inputs={"x": (T.STRING, ["N", 64])})
    model("nan_weight.onnx", [matmul], initializers={"w": np.full((64, 10), np.nan, np.float32)})
    model("huge_logits.onnx", [matmul], initializers={"w": np.full((64, 10), 1e4, np.float32)})
    growing = [h.make_node("Concat", ["c"] * 1000, ["wide"], name="first", axis=0), h.make_node("Concat", ["wide"] * 1000, ["wider"], name="second", axis=0),
               h.make_node("ReduceMax", ["wider"], ["m"], keepdims=0), h.make_node("Add", ["x", "m"], ["a"]), h.make_node("MatMul", ["a", "w"], ["y"])]
    model("growing.onnx", growing, initializers={"c": np.ones(1024, np.float32)})
    external = onnx.ModelProto()
    external.CopyFrom(good)
    onnx.save_model(external, "external.onnx", save_as_external_data=True, location="external.bin", size_threshold=0)
    os.remove("external.bin")
    short = onnx.ModelProto()
    short.CopyFrom(good)
    short.graph.initializer[0].raw_data = short.graph.initializer[0].raw_data[:-4]
    write("short_data.onnx", short.SerializeToString())


def nest(depth):
    """TypeProto in TypeProto in ...: a message that a careless reader follows until its stack ends."""
    def field(number, data):
        return bytes([number << 3 | 2]) + size(len(data)) + data

    def size(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    kind = b""
    for _ in range(depth):
        kind = field(4, field(1, kind))  # sequence_type { elem_type { ... } }
    return field(7, field(11, field(1, b"x") + field(2, kind)))  # graph { input { name, type } }


def idx(kind, shape, data=b""):
    return bytes([0, 0, kind, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape) + data


def make_imports():
    import gzip
    import io

    def npy(array):
        out = io.BytesIO()
        np.save(out, array)
        return out.getvalue()

    write("images.idx", idx(8, (4, 2, 2), bytes(16)))
    write("labels.idx", idx(8, (4,), bytes([0, 1, 2, 3])))
    write("labels3.idx", idx(8, (3,), bytes([0, 1, 2])))
    write("cut.idx", idx(8, (4, 2, 2), bytes(15)))
    write("long.idx", idx(8, (4, 2, 2), bytes(17)))
    write("head.idx", idx(8, (4, 2, 2))[:9])
    write("text.idx", "hello, this is text\n")
    write("empty.idx", b"")
    write("huge.idx", idx(8, (2**31, 2**31, 2**31)))
    write("deep.idx", idx(8, (1,) * 40, b"\0"))
    whole = gzip.compress(idx(8, (4, 2, 2), bytes(16)))
    write("cut.idx.gz", whole[:-9])
    write("bad.idx.gz", whole[:12] + bytes([255]) * 6 + whole[18:])
    write("good.bin", bytes(3073 * 2))
    write("cut.bin", bytes(3073 * 2 - 5))
    write("label200.bin", bytes([200]) + bytes(3072))
    write("good.csv", "a,b,class\n1,2,x\n3,4,y\n")
    write("ragged.csv", "a,b,class\n1,2,x\n3,4\n")
    write("word.csv", "a,b,class\n1,2,x\n3,four,y\n")
    write("inf.csv", "a,b,class\n1,2,x\n3,inf,y\n")
    write("missing.csv", "a,b,class\n1,2,x\n3,,y\n")
    write("quote.csv", 'a,b,class\n1,"2,x\n')
    write("twice.csv", "a,a,class\n1,2,x\n")
    write("header.csv", "a,b,class\n")
    write("empty.csv", "")
    write("other.csv", "a,c,class\n1,2,x\n")
    write("x.npy", npy(np.zeros((4, 3), np.float32)))
    write("y.npy", npy(np.arange(4)))
    write("y3.npy", npy(np.arange(3)))
    write("cut.npy", npy(np.zeros((4, 3), np.float32))[:-2])
    write("text.npy", "not an array")
    write("object.npy", npy_header("|O", "(4,)"))
    write("complex.npy", npy(np.zeros((4, 3), np.complex64)))
    write("fortran.npy", npy(np.asfortranarray(np.zeros((4, 3), np.float32))))
    write("nan.npy", npy(np.array([[1, 2], [3, np.nan]], np.float32)))
    write("scalar.npy", npy(np.float32(1)))


def npy_header(descr, shape):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


if __name__ == "__main__":
    {"datasets": make_datasets, "softlabels": make_softlabels, "models": make_models, "imports": make_imports}[sys.argv[1]]()
