"""What the ranks of an mpirun hold in memory; as a program, memory.py PROCESS: the most bytes of it, until that process has ended."""
import os
import sys
import time


def ranks(process):
    """MPICH's mpirun starts them through another process."""
    found = []
    for task in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{task}/children") as children:
            for child in children.read().split():
                with open(f"/proc/{child}/comm") as name:
                    found += [child] if name.read() == "mpistill\n" else ranks(child)
    return found


def field(path, *names):
    with open(path) as lines:
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(names))


def held(process):
    """Bytes: what the ranks share counted once, libraries in full even where other programs have them too; 0 when one has just ended."""
    own = files = 0
    try:
        for rank in ranks(process):
            own += field(f"/proc/{rank}/smaps_rollup", "Pss_Anon:", "Pss_Shmem:")
            files = max(files, field(f"/proc/{rank}/status", "RssFile:"))
    except (OSError, ProcessLookupError):
        return 0
    return own + files


def runs(process):
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, ProcessLookupError):
        return False


def main():
    most = 0
    while runs(sys.argv[1]):
        most = max(most, held(sys.argv[1]))
        time.sleep(0.002)  # what a file of parameters takes while it is read is there for milliseconds
    print(most)


if __name__ == "__main__":
    main()
