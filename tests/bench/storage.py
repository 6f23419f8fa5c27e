"""Soft labels of 10^6 rows of 100 classes in float16, written and read by 2 ranks, against dd with files of that size on the same disk."""
import os
import re
import subprocess

from common import bound, build, repeats, run, spread, text, verdict

ROWS, CLASSES, AIM = 1_000_000, 100, 0.9
LABELS = f"{build}/tests/bench/bench_labels"


def seconds_of_dd(*arguments):
    said = subprocess.run(["dd", *arguments], capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stderr
    return float(re.search(r"copied, ([\d.e-]+) s", said)[1])


def forget(path):
    """The file's pages: both read from the disk, as far as it can be told."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def measure(folder, _pythons):
    folder = os.environ.get("BENCH_FOLDER", folder)
    ours, plain, rows = f"{folder}/labels.h5", f"{folder}/plain", []
    size = ROWS * CLASSES * 2
    for _ in range(repeats):
        row = {}
        for path in (ours, plain):
            if os.path.exists(path):
                os.remove(path)
        row["write"] = float(run([*bound, LABELS, "write", ours, str(ROWS), str(CLASSES)]))
        # What teach does, too: the bytes are forced to the disk and read back.
        row["dd_write"] = seconds_of_dd("if=/dev/zero", f"of={plain}", "bs=1M", f"count={size}", "iflag=count_bytes", "conv=fsync")
        row["dd_verify"] = seconds_of_dd(f"if={plain}", "of=/dev/null", "bs=1M")
        forget(ours)
        row["read"] = float(run([*bound, LABELS, "read", ours]))
        forget(plain)
        row["dd_read"] = seconds_of_dd(f"if={plain}", "of=/dev/null", "bs=1M")
        rows.append(row)
    os.remove(ours)
    os.remove(plain)
    result = {what: {"seconds": spread([r[what] for r in rows]), "MB_per_s": spread([size / r[what] / 1e6 for r in rows]),
                     "dd_seconds": spread([r[f"dd_{what}"] for r in rows]), "ratio": spread([r[f"dd_{what}"] / r[what] for r in rows]),
                     "aim": AIM} for what in ("write", "read")}
    result["write"]["ratio_with_reading_back"] = spread([(r["dd_write"] + r["dd_verify"]) / r["write"] for r in rows])
    return result


def show(result):
    print(f"\nsoft labels of {ROWS:,} × {CLASSES} float16, MB/s, median (least–most) of {repeats}; the ratio is to dd's rate")
    for what, r in result.items():
        print(f"{what:6} {text(r['MB_per_s']):28} dd {r['dd_seconds']['median']:.3f} s   {text(r['ratio'], 2):24} ≥ {AIM}{verdict(r['ratio']['median'] >= AIM)}")
    print(f"writing, where dd's file is read back as well: {text(result['write']['ratio_with_reading_back'], 2)}", flush=True)
