"""Other splits of a dataset of images: parts.py INPUT.h5 OUTPUT.h5 SPLIT=FROM:ROWS[:CLASSES] ...

ROWS is A-B, the rows A to B - 1 of the split FROM; CLASSES, as in 012456789, keeps those labels only. parts.py mnist.h5 out.h5
train=train:0-50000:78 held-out=train:50000-60000 test=test:0-10000
"""
import sys

import h5py
import numpy as np


def main():
    with h5py.File(sys.argv[1]) as old, h5py.File(sys.argv[2], "w") as new:
        new.attrs.update({"format": np.bytes_(b"mpistill-dataset"), "version": np.int64(1)})
        for text in sys.argv[3:]:
            name, rest = text.split("=")
            source, rows, *classes = rest.split(":")
            begin, end = map(int, rows.split("-"))
            image, label = old[source]["image"], old[source]["label"][begin:end]
            kept = np.isin(label, [int(c) for c in classes[0]]) if classes else np.ones(len(label), bool)
            group = new.create_group(name)
            array = group.create_dataset("image", data=image[begin:end][kept], track_times=False)
            for key in ("scale", "offset"):
                if key in image.attrs:
                    array.attrs[key] = image.attrs[key]
            group.create_dataset("label", data=label[kept], track_times=False)


main()
