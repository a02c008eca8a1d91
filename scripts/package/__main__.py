"""``python -m scripts.package deb|rpm|tarball|pages|tree``: builds into dist/."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from scripts.package import debian, pages, redhat, tarball, tree
from scripts.package.plan import DIST, BuildError, Plan, plan

BUILDERS: Final[dict[str, Callable[[Plan], Path]]] = {
    "deb": debian.build,
    "rpm": redhat.build,
    "tarball": tarball.build,
    "pages": pages.build,
    "tree": tree.build,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is named; 1 with one sentence when it cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m scripts.package", description=__doc__)
    parser.add_argument("what", choices=BUILDERS, nargs="+")
    parser.add_argument("--out", type=Path, default=DIST, help="where to (default %(default)s)")
    parser.add_argument(
        "--python", default="3.11", help="version that it will run on (default %(default)s)"
    )
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        chosen = plan(given.out.resolve(), given.python)
        for what in given.what:
            made = BUILDERS[what](chosen)
            size = f" ({made.stat().st_size:,} bytes)" if made.is_file() else ""
            sys.stdout.write(f"{made}{size}\n")
    except BuildError as error:
        sys.stderr.write(f"package: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
