#!/usr/bin/python3
"""Writes digits.h5 from the copy of the UCI digits in Debian's python3-sklearn: make_digits.py [OUTPUT]

The order is UCI's: filled-in forms of about 130 digits, one after the other. The first 1437 rows are the training split,
the last 360 (a fifth) the test split, so the test digits come from other forms than nearly all training digits.
The same bytes come out every time: no object times, nothing random.
"""
import sys

import h5py
import numpy as np
from sklearn.datasets import load_digits

TRAIN_ROWS = 1437
PIXEL_MAX = 16


def text(value):
    return np.bytes_(value.encode())


def write_split(file, name, images, labels):
    group = file.create_group(name)
    image = group.create_dataset("image", data=images, track_times=False)
    image.attrs["scale"] = np.float32(1 / PIXEL_MAX)
    image.attrs["offset"] = np.float32(0)
    group.create_dataset("label", data=labels, track_times=False)


def main():
    output = sys.argv[1] if len(sys.argv) > 1 else "digits.h5"
    digits = load_digits()
    images = digits.images.reshape(-1, 1, 8, 8).astype(np.uint8)
    labels = digits.target.astype(np.int32)
    if images.shape != (1797, 1, 8, 8) or images.max() != PIXEL_MAX or not np.array_equal(images, digits.images[:, None]):
        sys.exit("make_digits.py: this is not the data set of 1797 images with pixels 0 to 16")
    with h5py.File(output, "w") as file:
        file.attrs["format"] = text("mpistill-dataset")
        file.attrs["version"] = np.int64(1)
        file.attrs["name"] = text("digits")
        file.attrs["source"] = text(
            "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, "
            "doi:10.24432/C50P49; its test set of 1797 images; the first 1437 are /train, the last 360 /test")
        file.attrs["licence"] = text("CC BY 4.0")
        write_split(file, "train", images[:TRAIN_ROWS], labels[:TRAIN_ROWS])
        write_split(file, "test", images[TRAIN_ROWS:], labels[TRAIN_ROWS:])
        file.create_dataset("classes", data=np.array([str(c) for c in range(10)], "S1"), track_times=False)


if __name__ == "__main__":
    main()
