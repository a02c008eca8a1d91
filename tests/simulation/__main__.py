"""Run worlds: ``python -m tests.simulation --seeds 0:10000``; one with its story: ``--seed 7``."""

import argparse
import logging
import sys
import time
from collections import Counter

from tests.simulation.many import live, live_all


def main() -> int:
    """Run what was asked for; 1 if an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="live through one world and tell its story")
    parser.add_argument("--seeds", default="0:1000", metavar="FIRST:END", help="many, in silence")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if args.seed is not None:
        result = live(args.seed, trace=True)
        sys.stdout.write("\n".join(result.trace) + "\n")
        sys.stdout.write(f"seed {args.seed}: {result.violation or 'all is well'}\n")
        return bool(result.violation)
    first, end = map(int, args.seeds.split(":"))
    began = time.monotonic()
    seen: Counter[str] = Counter()
    broken = []
    for result in live_all(range(first, end)):
        seen.update(result.happened)
        if result.violation:
            broken.append(result.seed)
            sys.stdout.write(f"seed {result.seed}: {result.violation}\n")
    took_s = time.monotonic() - began
    sys.stdout.write(f"{end - first} worlds in {took_s:.1f} s, {len(broken)} broken\n")
    for what, times in seen.most_common():
        sys.stdout.write(f"{times:>9} {what}\n")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
