#!/usr/bin/python3
"""h5py's and numpy's side of the tests of src/store: reference.py COMMAND FOLDER"""
import ctypes
import ctypes.util
import os
import struct
import sys

import h5py
import numpy as np

xxhash = ctypes.CDLL(ctypes.util.find_library("xxhash"))
xxhash.XXH3_64bits.restype = ctypes.c_uint64
xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def xxh3(data):
    return xxhash.XXH3_64bits(data, len(data))


def split_hash(file, split):
    text = b""
    for name in sorted(file[split], key=str.encode):
        a = file[split][name]
        text += f"{name}\n{a.dtype}\n{','.join(map(str, a.shape))}\n".encode()
        data = a[...].tobytes()
        for i in range(0, len(data), 1 << 20):
            text += struct.pack("<Q", xxh3(data[i : i + (1 << 20)]))
    return "xxh3:%016x" % xxh3(text)


def dataset(path):
    file = h5py.File(path, "w")
    file.attrs["format"] = "mpistill-dataset"
    file.attrs["version"] = 1
    return file


def softlabels(path, encoding, **attributes):
    file = h5py.File(path, "w")
    file.attrs.update(format="mpistill-softlabels", version=1, split="train", encoding=encoding, **attributes)
    return file


def dump(folder, name, values):
    np.ascontiguousarray(values).tofile(os.path.join(folder, name))


# ---- datasets ----


def make_dataset(folder):
    rng = np.random.default_rng(1)
    n = 37
    arrays = {
        "bytes": rng.integers(0, 256, (n, 3, 4, 5)).astype("u1"),
        "half": rng.normal(0, 10, (n, 7)).astype("f2"),
        "real": rng.normal(0, 10, (n, 2, 6)).astype("f4"),
        "token": rng.integers(-(2**31), 2**31, (n, 9)).astype("i4"),
        "wide": rng.integers(-1000, 1000, (n,)).astype("i8"),
    }
    scale = np.array([0.5, 1 / 255, -3.0])
    offset = np.array([0.25, 0.0, 7.0])
    with dataset(os.path.join(folder, "plain.h5")) as f, dataset(os.path.join(folder, "packed.h5")) as g:
        for name, a in arrays.items():
            f["train/" + name] = a
            g.create_dataset("train/" + name, data=a, chunks=(5,) + a.shape[1:], compression="gzip", shuffle=True)
        for file in (f, g):
            file["train/bytes"].attrs["scale"] = scale
            file["train/bytes"].attrs["offset"] = offset
            file["train/real"].attrs["scale"] = np.array(2.0)
            file["train/token.length"] = np.arange(n, dtype="i4") % 10
            file["train/label"] = np.arange(n) % 4 - 1
            file["train/label.parity"] = (np.arange(n) % 2).astype("u1")
            file["train/target"] = rng.normal(size=(n, 2)).astype("f4")
            file["test/bytes"] = arrays["bytes"][:5]
            file["classes"] = ["null", "eins", "zw\u00f6lf"]
            file.attrs["name"] = "plain"
            file.attrs["licence"] = np.bytes_(b"CC0")
    shape = (1, 3, 1, 1)
    x = arrays["bytes"].astype("f4") * scale.astype("f4").reshape(shape) + offset.astype("f4").reshape(shape)
    dump(folder, "bytes.bin", x)
    dump(folder, "half.bin", arrays["half"].astype("f4"))
    dump(folder, "real.bin", arrays["real"] * np.float32(2))
    dump(folder, "token.bin", arrays["token"])
    dump(folder, "wide.bin", arrays["wide"].astype("f4"))
    dump(folder, "label.bin", (np.arange(n) % 4 - 1).astype("i4"))


def make_bad_datasets(folder):
    x = np.zeros((4, 2), "f4")

    def case(name):
        return dataset(os.path.join(folder, name + ".h5"))

    with case("values") as f:
        bad = np.arange(12, dtype="f4").reshape(4, 3)
        bad[2, 1] = np.nan
        f["train/x"] = bad
        half = bad.astype("f2")
        half[2, 1] = np.inf
        f["train/half"] = half
        f["train/wide"] = np.array([1, 2, 3, 2**40])
    for name in ("no-format", "wrong-format", "number-format", "no-version", "version-2", "text-version"):
        with case(name) as f:
            f["train/x"] = x
            if name == "no-format":
                del f.attrs["format"]
            if name == "wrong-format":
                f.attrs["format"] = "mpistill-softlabels"
            if name == "number-format":
                f.attrs["format"] = 7
            if name == "no-version":
                del f.attrs["version"]
            if name == "version-2":
                f.attrs["version"] = 2
            if name == "text-version":
                f.attrs["version"] = "1"
    with case("no-splits") as f:
        pass
    with case("no-inputs") as f:
        f["train/label"] = np.zeros(4, "i4")
    with case("loose") as f:
        f["x"] = x
    with case("float64") as f:
        f["train/x"] = x.astype("f8")
    with case("big-endian") as f:
        f["train/x"] = x.astype(">f4")
    with case("strings") as f:
        f["train/x"] = ["a", "b"]
    with case("real-label") as f:
        f["train/x"] = x
        f["train/label"] = np.zeros(4, "f4")
    with case("rows-differ") as f:
        f["train/x"] = x
        f["train/label"] = np.zeros(5, "i4")
    with case("no-rows") as f:
        f["train/x"] = np.zeros((0, 2), "f4")
    with case("scalar") as f:
        f["train/x"] = np.float32(1)
    with case("nine-dimensions") as f:
        f["train/x"] = np.zeros((1,) * 9, "f4")
    with case("huge") as f:
        f.create_dataset("train/x", (2**31, 2**31, 2**31), "f4", chunks=(1, 1, 1))
    with case("nested") as f:
        f["train/deep/x"] = x
    with case("outside-link") as f:
        f["train/y"] = x
        f["train/x"] = h5py.ExternalLink("other.h5", "/x")
    with case("outside-data") as f:
        f.create_dataset("train/x", (4, 2), "f4", external=[(os.path.join(folder, "x.raw"), 0, 32)])
    with case("virtual") as f:
        layout = h5py.VirtualLayout((4, 2), "f4")
        layout[:] = h5py.VirtualSource(os.path.join(folder, "other.h5"), "x", (4, 2))
        f.create_virtual_dataset("train/x", layout)
    with case("three-scales") as f:
        f["train/x"] = x
        f["train/x"].attrs["scale"] = [1.0, 2.0, 3.0]
    with case("nan-scale") as f:
        f["train/x"] = x
        f["train/x"].attrs["scale"] = np.nan
    with case("text-scale") as f:
        f["train/x"] = x
        f["train/x"].attrs["scale"] = "1"
    with case("number-classes") as f:
        f["train/x"] = x
        f["classes"] = np.arange(3)
    with case("stray-length") as f:
        f["train/x"] = x
        f["train/y.length"] = np.zeros(4, "i4")
    open(os.path.join(folder, "text.h5"), "w").write("not an HDF5 file\n" * 100)
    open(os.path.join(folder, "empty.h5"), "w").close()
    whole = open(os.path.join(folder, "rows-differ.h5"), "rb").read()
    open(os.path.join(folder, "cut.h5"), "wb").write(whole[: len(whole) // 2])


def make_halves(folder):
    """A million halves: every finite one, and the values around powers of two that HDF5 1.10 gets wrong."""
    patterns = np.arange(65536).astype("u2").view("f2")
    patterns = patterns[np.isfinite(patterns)]
    x = np.resize(patterns, (1000, 1000))
    with dataset(os.path.join(folder, "halves.h5")) as f:
        f["train/x"] = x
    dump(folder, "halves.bin", x.astype("f4"))
    rng = np.random.default_rng(2)
    y = rng.uniform(-20, 20, 10**6).astype("f4")
    powers = np.float32(2) ** np.arange(-24, 16, dtype="f4")
    edge = np.concatenate([np.nextafter(powers, np.float32(0)), powers * np.float32(1 - 2**-12), powers * np.float32(1 - 2**-11)])
    y[: len(edge)] = edge
    y[len(edge) : 2 * len(edge)] = -edge
    y[-2:] = [65519.996, 7.99932718]
    dump(folder, "reals.bin", y)
    dump(folder, "rounded.bin", y.astype("f2"))


def make_hashed(folder):
    rng = np.random.default_rng(3)
    a = rng.integers(0, 256, (5, 3 << 18)).astype("u1")
    b = rng.normal(size=(5, 70001)).astype("f4")
    with dataset(os.path.join(folder, "one.h5")) as f, dataset(os.path.join(folder, "two.h5")) as g:
        for name, x in (("a", a), ("b", b), ("label", np.arange(5, dtype="i4")), ("B", b[:, :3].astype("f2"))):
            f["train/" + name] = x
            chunks = (2,) + tuple(max(1, d // 3) for d in x.shape[1:])
            g.create_dataset("train/" + name, data=x, chunks=chunks, compression="gzip", compression_opts=1)
        f["test/a"] = a[:1]
        g["test/a"] = a[1:2]
        with open(os.path.join(folder, "hashes"), "w") as out:
            out.write(f"{split_hash(f, 'train')} {split_hash(f, 'test')} {split_hash(g, 'test')}\n")


def check_written(folder):
    with h5py.File(os.path.join(folder, "written.h5"), "r") as f:
        assert f.attrs["format"] == b"mpistill-dataset" and f.attrs["version"] == 1
        assert f.attrs["name"] == b"digits" and f.attrs["source"].decode() == "Kaynak, Alpayd\u0131n" and f.attrs["licence"] == b"", dict(f.attrs)
        assert list(f.attrs) == sorted(f.attrs)
        assert [c.decode() for c in f["classes"]] == ["a", "bb", "\u00e7"], f["classes"][...]
        x = f["train/x"]
        assert x.dtype == np.uint8 and x.chunks is None and x.attrs["scale"] == np.float32(1 / 16) and x.attrs["offset"] == 0
        assert np.array_equal(x[...], np.arange(10 * 6).reshape(10, 2, 3).astype("u1"))
        h = f["train/half"]
        assert h.dtype == np.float16 and np.array_equal(h[...].view("u2"), np.arange(10, dtype="u2"))
        t = f["test/table"]
        assert t.dtype == np.float32 and t.chunks and np.array_equal(t[...], np.arange(3000, dtype="f4").reshape(1000, 3) / 2)
        assert np.array_equal(t.attrs["scale"], [1, 2, 3]) and np.array_equal(t.attrs["offset"], [4, 5, 6])
        assert f["test/label"].dtype == np.int32 and np.array_equal(f["test/label"][...], np.arange(1000))


# ---- soft labels ----


def top(z, k):
    """z [n, C]: numpy's own k largest, ties by index, and the log-sum-exp of the others."""
    order = np.argsort(-z, axis=1, kind="stable")
    index, others = order[:, :k], order[:, k:]
    rest = np.log(np.exp(np.take_along_axis(z, others, 1).astype("f8")).sum(1)) if k < z.shape[1] else np.full(len(z), -np.inf)
    return index, np.take_along_axis(z, index, 1), rest


def check_blocks(f, arrays, block_rows):
    n = len(arrays[0])
    blocks = -(-n // block_rows)
    assert np.array_equal(f["blocks/done"][...], np.ones(blocks, "u1")) and f["blocks/checksum"].dtype == np.uint64
    for b in range(blocks):
        data = b"".join(a[b * block_rows : (b + 1) * block_rows].tobytes() for a in arrays)
        assert f["blocks/checksum"][b] == xxh3(data), b


def check_softlabels(folder):
    n, classes, positions, block = 103, 11, 6, 8
    z = np.fromfile(os.path.join(folder, "logits.bin"), "f4").reshape(n, classes, positions)
    for name, dtype in (("dense16", "f2"), ("dense32", "f4")):
        with h5py.File(os.path.join(folder, name + ".h5"), "r") as f:
            a = f["logits"]
            assert a.dtype == dtype and a.chunks is None and a[...].tobytes() == z.astype(dtype).tobytes()
            assert f.attrs["teacher"] == b"wide" and f.attrs["split"] == b"train" and f.attrs["encoding"] == b"dense"
            assert f.attrs["block_rows"] == block and f.attrs["batch_rows"] == 4 and f.attrs["model_hash"] == b"xxh3:1"
            assert "method" not in f.attrs
            check_blocks(f, [a[...]], block)
    for name, dtype, k in (("top16", "f2", 3), ("top32", "f4", 3), ("all32", "f4", classes)):
        with h5py.File(os.path.join(folder, name + ".h5"), "r") as f:
            flat = z.transpose(0, 2, 1).reshape(-1, classes)
            index, logit, rest = top(flat, k)
            assert f["topk/index"].dtype == np.int32 and f["topk/index"].shape == (n, 2, 3, k)
            assert np.array_equal(f["topk/index"][...].reshape(-1, k), index)
            assert f["topk/logit"].dtype == dtype and f["topk/logit"][...].tobytes() == logit.astype(dtype).tobytes()
            assert f["topk/rest"].dtype == np.float32 and np.allclose(f["topk/rest"][...].ravel(), rest, rtol=1e-6, atol=0)
            assert f.attrs["n_classes"] == classes and f.attrs["encoding"] == b"topk"
            check_blocks(f, [f["topk/index"][...], f["topk/logit"][...], f["topk/rest"][...]], block)
    with h5py.File(os.path.join(folder, "ensemble.h5"), "r") as f:
        assert f.attrs["method"] == b"probability-mean" and f.attrs["temperature"] == 4
        assert list(f.attrs["teachers"]) == [b"wide", b"conv"] and list(f.attrs["weights"]) == [0.25, 0.75]
        assert [c.decode() for c in f["classes"]] == ["c%d" % i for i in range(classes)]


def check_rounded(folder):
    with h5py.File(os.path.join(folder, "rounded.h5"), "r") as f:
        want = np.fromfile(os.path.join(folder, "rounded.bin"), "u2")
        assert np.array_equal(f["logits"][...].view("u2").ravel(), want)


def make_foreign(folder):
    rng = np.random.default_rng(4)
    n, classes = 29, 6
    z = rng.normal(0, 5, (n, classes))
    dump(folder, "foreign.bin", z.astype("f4"))
    dump(folder, "foreign16.bin", z.astype("f2").astype("f4"))
    for dtype in ("f8", "f4", "f2"):
        with softlabels(os.path.join(folder, f"foreign-{dtype}.h5"), "dense", dataset_hash="xxh3:0000000000000001") as f:
            f.create_dataset("logits", data=z.astype(dtype), chunks=(4, 5), compression="gzip")
            f["features/hidden"] = np.zeros((n, 2))
            f["classes"] = ["k%d" % c for c in range(classes)]
    index, logit, rest = top(z, 2)
    spread = np.repeat(np.float32(rest.astype("f4") - np.log(4.0))[:, None], classes, 1)
    np.put_along_axis(spread, index, logit.astype("f4"), 1)
    dump(folder, "foreign-top.bin", spread.astype("f4"))
    with softlabels(os.path.join(folder, "foreign-top.h5"), "topk") as f:
        f["topk/index"], f["topk/logit"], f["topk/rest"] = index, logit.astype("f4"), rest.astype("f4")
        f["classes"] = np.arange(classes)

    def bad(name, encoding="dense", **attributes):
        return softlabels(os.path.join(folder, name + ".h5"), encoding, **attributes)

    with bad("no-split") as f:
        del f.attrs["split"]
        f["logits"] = z
    with bad("no-encoding") as f:
        del f.attrs["encoding"]
        f["logits"] = z
    with bad("odd-encoding", "sparse") as f:
        f["logits"] = z
    with bad("no-logits") as f:
        pass
    with bad("one-dimension") as f:
        f["logits"] = z[:, 0]
    with bad("whole-numbers") as f:
        f["logits"] = z.astype("i4")
    with bad("few-classes") as f:
        f["logits"] = z
        f["classes"] = ["a", "b"]
    with bad("half-blocks") as f:
        f["logits"] = z
        f["blocks/done"] = np.ones(3, "u1")
        f.attrs["block_rows"] = 10
    with bad("wrong-blocks", block_rows=10) as f:
        f["logits"] = z
        f["blocks/done"] = np.ones(2, "u1")
        f["blocks/checksum"] = np.ones(2, "u8")
    with bad("unfinished", block_rows=10) as f:
        f["logits"] = z
        f["blocks/done"] = np.array([1, 0, 1], "u1")
        f["blocks/checksum"] = np.ones(3, "u8")
    with bad("top-without-classes", "topk") as f:
        f["topk/index"], f["topk/logit"], f["topk/rest"] = index, logit, rest
    with bad("top-shapes", "topk", n_classes=classes) as f:
        f["topk/index"], f["topk/logit"], f["topk/rest"] = index[:-1], logit, rest
    with bad("top-too-many", "topk", n_classes=1) as f:
        f["topk/index"], f["topk/logit"], f["topk/rest"] = index, logit, rest
    with bad("bad-temperature", temperature=np.nan) as f:
        f["logits"] = z
    with bad("nan") as f:
        z[7, 3] = np.nan
        f["logits"] = z
    for name, place, value in (("index-out", (5, 1), classes), ("index-below", (5, 1), -1), ("index-twice", (5, 1), index[5, 0])):
        with bad(name, "topk", n_classes=classes) as f:
            wrong = index.copy()
            wrong[place] = value
            f["topk/index"], f["topk/logit"], f["topk/rest"] = wrong, logit, rest
    with bad("rest-infinite", "topk", n_classes=classes) as f:
        f["topk/index"], f["topk/logit"], f["topk/rest"] = index, logit, np.full(n, -np.inf)


if __name__ == "__main__":
    globals()[sys.argv[1].replace("-", "_")](sys.argv[2])
