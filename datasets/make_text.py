#!/usr/bin/python3
"""Labelled sentences to a dataset of token ids.

    make_text.py --train FILE --test FILE --output trec.h5 [--format trec|tsv] [--length 32] [--words 8000] [--held-out SHARE]

trec: a line is `COARSE:fine words ...` in Latin-1; the coarse class is learned. tsv: UTF-8 with a header, columns `label` and
`sentence` (GLUE), `content` or `text`. Files may be .gz. A token is a word in lower case, a number or a mark of its own. Token 0 is
padding, 1 a word that is not among the --words most frequent of the training file; ties go by the alphabet. --held-out takes that
share of the training rows, every so many, into a split of their own. The same files give the same bytes.
"""
import argparse
import collections
import csv
import gzip
import re
import sys

import h5py
import numpy as np

PADDING, UNKNOWN = 0, 1
TEXTS = "sentence", "content", "text"


def refuse(message):
    print(f"make_text.py: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def text(value):
    return np.bytes_(value.encode())


def lines(path, encoding):
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding=encoding, newline="") as file:
            yield from file
    except (OSError, EOFError, UnicodeDecodeError) as error:
        hint = "; --format trec is for TREC's lines" if encoding == "utf-8" and isinstance(error, UnicodeDecodeError) else ""
        refuse(f"{path}: cannot be read: {error}{hint}")


def read_trec(path):
    for i, line in enumerate(lines(path, "latin-1"), 1):
        label, _, sentence = line.partition(" ")
        if ":" not in label:
            refuse(f"{path}, line {i}: does not begin with COARSE:fine; --format tsv is for columns")
        yield label.split(":")[0], sentence


def read_tsv(path):
    rows = csv.DictReader(lines(path, "utf-8"), delimiter="\t", quoting=csv.QUOTE_NONE)
    names = rows.fieldnames or []
    column = next((name for name in TEXTS if name in names), None)
    if not column or "label" not in names:
        refuse(f"{path}: its first line names no columns 'label' and '{TEXTS[0]}', but {names}; --format trec is for TREC's lines")
    for row in rows:
        if row["label"] is None or row[column] is None:
            refuse(f"{path}, line {rows.line_num}: has too few columns")
        yield row["label"], row[column]


def read(path, form):
    """Pairs of a class's name and a sentence."""
    pairs = list(read_trec(path) if form == "trec" else read_tsv(path))
    if not pairs:
        refuse(f"{path}: has no rows")
    return pairs


def tokens(sentence):
    return re.findall(r"[a-z]+|[0-9]+|[^\sa-z0-9]", sentence.lower())


def write_split(file, name, rows, place, classes, length):
    ids = np.full((len(rows), length), PADDING, np.int32)
    for i, (_, words) in enumerate(rows):
        known = [place.get(word, UNKNOWN) for word in words[:length]]
        ids[i, :len(known)] = known
    group = file.create_group(name)
    group.create_dataset("tokens", data=ids, track_times=False)
    labels = np.array([classes.index(label) for label, _ in rows], np.int32)
    group.create_dataset("label", data=labels, track_times=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--format", choices=("trec", "tsv"), default="tsv")
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--words", type=int, default=8000)
    parser.add_argument("--held-out", type=float, default=0)
    a = parser.parse_args()
    train, test = ([(label, tokens(s)) for label, s in read(path, a.format)] for path in (a.train, a.test))
    classes = sorted({label for label, _ in train})
    unknown = {label for label, _ in test} - set(classes)
    if unknown:
        refuse(f"{a.test}: classes that {a.train} has not: {', '.join(sorted(unknown))}")
    counts = collections.Counter(word for _, words in train for word in words)
    words = sorted(counts, key=lambda w: (-counts[w], w))[:a.words - 2]
    place = {word: i + 2 for i, word in enumerate(words)}
    every = round(1 / a.held_out) if a.held_out > 0 else 0
    held = [r for i, r in enumerate(train) if every and i % every == every - 1]
    kept = [r for i, r in enumerate(train) if not every or i % every != every - 1]
    with h5py.File(a.output, "w") as file:
        file.attrs.update({"format": text("mpistill-dataset"), "version": np.int64(1), "name": text(a.format)})
        write_split(file, "train", kept, place, classes, a.length)
        if held:
            write_split(file, "held-out", held, place, classes, a.length)
        write_split(file, "test", test, place, classes, a.length)
        file.create_dataset("classes", data=np.array([c.encode() for c in classes]), track_times=False)
    print(f"{a.output}: {len(place) + 2} tokens, {len(classes)} classes, {len(kept)} + {len(held)} + {len(test)} rows")


main()
