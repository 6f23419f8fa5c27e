"""The table of all rows: table.py FILE..."""
import re
import statistics
import sys


def verdict(goal, values):
    """Whether the mean meets "<= N"; within two standard deviations is said to be near."""
    match = re.match(r"(<=|>=) ([0-9.]+)", goal)
    if not match:
        return ""
    limit, mean = float(match.group(2)), statistics.mean(values)
    spread = 2 * statistics.stdev(values) if len(values) > 1 else 0
    better = (limit - mean) * (1 if match.group(1) == "<=" else -1)
    return "met" if better >= 0 else "within 2 sd" if better + spread >= 0 else "missed"


def main():
    print(f"{'':10} {'':58} {'paper':>8} {'here':>16} {'runs':>4}  {'goal':12}")
    for path in sys.argv[1:]:
        for line in open(path):
            name, what, paper, goal, text = line.rstrip("\n").split("\t")
            values = [float(v) for v in text.split()]
            here = f"{statistics.mean(values):.4g}"
            if len(values) > 1:
                here += f" ± {statistics.stdev(values):.2g}"
            print(f"{name:10} {what:58} {paper:>8} {here:>16} {len(values):>4}  {goal:12} {verdict(goal, values)}")


main()
