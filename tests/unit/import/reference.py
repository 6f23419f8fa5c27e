"""Foreign files and what they must become: reference.py make|check, in an empty folder.

make writes the files, cases.txt (a line each: NAME FORMAT [--OPTION...] SPLIT=FILES...) and NAME.npz, the arrays expected in NAME.h5; check
compares."""
import csv
import gzip
import os
import struct
import sys

import h5py
import numpy as np

random = np.random.default_rng(7)
BYTE = {"scale": np.float32(1) / np.float32(255), "offset": np.float32(0)}
IDX_TYPES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def write(path, data, compress=False):
    with (gzip.open if compress else open)(path, "wb") as f:
        f.write(data)
    return path


def idx(path, array, compress=False):
    kind = array.dtype.str[1:]
    head = struct.pack(">BBBB", 0, 0, IDX_TYPES[kind], array.ndim) + struct.pack(">%dI" % array.ndim, *array.shape)
    return write(path, head + array.astype(">" + kind).tobytes(), compress)


def npy(path, array, version=None):
    with open(path, "wb") as f:
        np.lib.format.write_array(f, array, version)
    return path


def table(path, rows, **options):
    with open(path, "w", newline="", encoding="utf-8") as f:
        csv.writer(f, **options).writerows(rows)
    return path


def image_bytes(*shape):
    return random.integers(0, 256, shape, dtype=np.uint8)


def idx_images():
    x, y = image_bytes(300, 28, 28), random.integers(0, 10, 300).astype("u1")
    xt, yt = image_bytes(7, 28, 28), random.integers(0, 10, 7).astype("u1")
    args = ["idx", "train=%s,%s" % (idx("x.gz", x, True), idx("y.gz", y, True)), "test=%s,%s" % (idx("xt", xt), idx("yt", yt))]
    return args, {"train/image": (x[:, None], BYTE), "train/label": y.astype("i4"), "test/image": (xt[:, None], BYTE),
                  "test/label": yt.astype("i4")}


def idx_large():
    """More than one piece of 4 MiB."""
    x = image_bytes(6001, 3, 30, 30)
    return ["idx", "train=" + idx("large", x)], {"train/image": (x, BYTE)}


def idx_kinds():
    args, expected = ["idx"], {}
    for kind, to in (("i1", "i4"), ("i2", "i4"), ("i4", "i4"), ("f4", "f4"), ("f8", "f4")):
        x = (random.standard_normal((20, 6)) * 100).astype(kind)
        args = ["idx", "train=" + idx("kind_" + kind, x)]
        expected[kind] = (args, {"train/features": x.astype(to)})
    return expected


def cifar10():
    labels, images = random.integers(0, 10, (3, 50), dtype=np.uint8), image_bytes(3, 50, 3, 32, 32)
    for k in range(3):
        write("c%d.bin" % k, b"".join(bytes([labels[k, i]]) + images[k, i].tobytes() for i in range(50)), compress=k == 1)
    return ["cifar", "train=c0.bin,c1.bin", "test=c2.bin"], {
        "train/image": (images[:2].reshape(100, 3, 32, 32), BYTE), "train/label": labels[:2].reshape(100).astype("i4"),
        "test/image": (images[2], BYTE), "test/label": labels[2].astype("i4")}


def cifar100():
    coarse, fine = random.integers(0, 20, 2000, dtype=np.uint8), random.integers(0, 100, 2000, dtype=np.uint8)
    images = image_bytes(2000, 3, 32, 32)
    write("train.bin", b"".join(bytes([coarse[i], fine[i]]) + images[i].tobytes() for i in range(2000)))
    return ["cifar", "train=train.bin"], {"train/image": (images, BYTE), "train/label": fine.astype("i4"),
                                          "train/label.coarse": coarse.astype("i4")}


def csv_numbers():
    x, y = random.standard_normal((50, 3)) * 10.0 ** random.integers(-20, 20, (50, 3)), random.integers(-1, 5, 50)
    rows = [["a", "b", "class", "c"]] + [[repr(v[0]), " %r " % v[1], t, repr(v[2])] for v, t in zip(x.tolist(), y)]
    table("lf.csv", rows, lineterminator="\n")
    table("crlf.csv", rows, quoting=csv.QUOTE_ALL)
    both = np.concatenate([x, x]).astype("f4")
    return ["csv", "--label-column=class", "train=lf.csv,crlf.csv", "test=lf.csv"], {
        "train/features": both, "train/label": np.concatenate([y, y]).astype("i4"), "test/features": x.astype("f4"),
        "test/label": y.astype("i4")}


def csv_text():
    """Quoted commas, quotes and line ends; a byte order mark; empty lines; categories and classes; no line end at the end."""
    kinds = ["red", "a,b", 'say "x"', "two\nlines", "müde", "7"]
    names = ["virginica", "setosa", "versi,color", "-1"]
    pick, label = random.integers(0, len(kinds), 80), random.integers(0, len(names), 80)
    number = random.integers(0, 100, 80)
    table("text.csv", [["size", "kind, of", "species"]] + [[n, kinds[k], names[t]] for n, k, t in zip(number, pick, label)])
    with open("text.csv", "rb") as f:
        text = f.read()
    write("text.csv", b"\xef\xbb\xbf" + text.replace(b"\r\n", b"\r\n\r\n", 3)[:-2])
    order = list(dict.fromkeys(pick))
    classes = sorted(set(names) - {"-1"})
    table("few.csv", [["size", "kind, of", "species"], [1, kinds[order[2]], "another"]])
    classes = sorted(classes + ["another"])
    features = np.stack([number, [order.index(k) for k in pick]], 1).astype("f4")
    codes = [classes.index(names[t]) if names[t] != "-1" else -1 for t in label]
    return ["csv", "--label-column=species", "--categorical", "train=text.csv", "test=few.csv"], {
        "train/features": features, "train/label": np.array(codes, "i4"), "test/features": np.array([[1, 2]], "f4"),
        "test/label": np.array([classes.index("another")], "i4"), "classes": classes}


def csv_standardize():
    x = (random.standard_normal((500, 4)) * [1, 1e3, 1e-4, 0] + [5, -300, 1e-3, 42]).astype("f4").astype("f8")
    table("s.csv", [["a", "b", "c", "same"]] + x.tolist())
    table("t.csv", [["a", "b", "c", "same"]] + x[:3].tolist())
    deviation = np.where(x.std(0) > 0, x.std(0), 1)
    scale = {"scale": (1 / deviation).astype("f4"), "offset": (-x.mean(0) / deviation).astype("f4"), "close": True}
    return ["csv", "--standardize", "train=s.csv", "test=t.csv"], {"train/features": (x.astype("f4"), scale),
                                                                  "test/features": (x[:3].astype("f4"), scale)}


def csv_wide():
    """A line of more than 1 MiB."""
    x = random.standard_normal((3, 60000)).astype("f4")
    table("wide.csv", [["column%d" % i for i in range(60000)]] + [["%.9g" % v for v in row] for row in x])
    return ["csv", "train=wide.csv"], {"train/features": x}


def npy_plain():
    x, y = random.standard_normal((40, 5)).astype("f4"), random.integers(0, 9, 40)
    xt, yt = random.standard_normal((3, 5)), random.integers(0, 9, (3, 1)).astype("u1")
    return ["npy", "train=%s,%s" % (npy("x.npy", x), npy("y.npy", y)), "test=%s,%s" % (npy("xt.npy", xt), npy("yt.npy", yt))], {
        "train/features": x, "train/label": y.astype("i4"), "test/features": xt.astype("f4"), "test/label": yt[:, 0].astype("i4")}


def npy_targets():
    x, y = random.standard_normal((6, 2, 4, 4)).astype("f2"), random.standard_normal((6, 3)).astype("f2")
    return ["npy", "all=%s,%s" % (npy("xi.npy", x), npy("yi.npy", y))], {"all/image": x, "all/target": y.astype("f4")}


def npy_kinds():
    cases = {}
    kinds = {"<f2": "f2", ">f2": "f2", "<f4": "f4", ">f4": "f4", "<f8": "f4", ">f8": "f4", "u1": "u1", "i1": "i4", "<i2": "i4", ">i2": "i4",
             "<i4": "i4", ">i4": "i4", "<i8": "i8", ">i8": "i8", "b1": "u1", ">u2": "i4", "<u4": "i8", "<u8": "i8"}
    for number, (kind, to) in enumerate(kinds.items()):
        x = random.standard_normal((9, 2, 3)) * 50
        x = x > 0 if kind == "b1" else np.abs(x).astype(kind) if "u" in kind else x.astype(kind)
        path = npy("k%d.npy" % number, x, [(1, 0), (2, 0), (3, 0)][number % 3])
        cases["k%d" % number] = (["npy", "train=" + path], {"train/input": x.astype(to)})
    return cases


def npy_vector():
    x = np.arange(5, dtype="i4")
    return ["npy", "train=" + npy("v.npy", x)], {"train/features": x[:, None]}


def all_cases():
    for make in (idx_images, idx_large, cifar10, cifar100, csv_numbers, csv_text, csv_standardize, csv_wide, npy_plain, npy_targets,
                 npy_vector):
        yield (make.__name__, *make())
    for make in (idx_kinds, npy_kinds):
        for name, case in make().items():
            yield (make.__name__ + "_" + name, *case)


def make():
    with open("cases.txt", "w") as f:
        for name, args, expected in all_cases():
            flat = {}
            for array, value in expected.items():
                value, attributes = value if isinstance(value, tuple) else (value, {})
                flat[array.replace("/", "|")] = value
                flat.update({array.replace("/", "|") + "@" + k: v for k, v in attributes.items()})
            np.savez(name + ".npz", **flat)
            print(name, *args, file=f)


def compare(name):
    expected = {k.replace("|", "/"): v for k, v in np.load(name + ".npz").items()}
    with h5py.File(name + ".h5", "r") as f:
        assert f.attrs["format"] in (b"mpistill-dataset", "mpistill-dataset") and f.attrs["version"] == 1
        there = []
        f.visititems(lambda path, item: there.append(path) if isinstance(item, h5py.Dataset) else None)
        assert sorted(there) == sorted(k for k in expected if "@" not in k), (there, sorted(expected))
        for path in there:
            got, want = f[path][...], expected[path]
            if path == "classes":
                assert [c.decode() for c in got] == list(want), got
                continue
            assert got.dtype == want.dtype and got.shape == want.shape, (path, got.dtype, got.shape, want.dtype, want.shape)
            assert got.tobytes() == want.tobytes(), path
            attributes = {k: v for k, v in f[path].attrs.items()}
            assert set(attributes) == {k for k in ("scale", "offset") if path + "@" + k in expected}, (path, attributes)
            for key, value in attributes.items():
                np.testing.assert_allclose(np.asarray(value).reshape(-1), np.asarray(expected[path + "@" + key]).reshape(-1),
                                           rtol=1e-6 if path + "@close" in expected else 0)


def check():
    failures = 0
    with open("cases.txt") as f:
        for name in (line.split()[0] for line in f):
            try:
                compare(name)
            except Exception as error:
                failures += 1
                print("%s: %s: %s" % (name, type(error).__name__, error))
    sys.exit(1 if failures else 0)


{"make": make, "check": check}[sys.argv[1]]()
