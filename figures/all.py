"""Draw every figure whose experiment has complete runs. python -m figures.all --results results --out figures"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from aldsgd.listings import MissingRuns, names
from figures.common import overview, script


def draw(results: Path, out: Path) -> list[Path]:
    """Draw what is listed, each with the module of its name or else an overview; returns the files written."""
    written = []
    for name in names(results):
        own = find_spec(f"figures.{name}") if name.isidentifier() else None
        try:
            written += import_module(own.name).draw(results, out) if own else overview(results, out, name)
        except MissingRuns as error:
            print(f"left out: {error}", file=sys.stderr)
    return written


if __name__ == "__main__":
    sys.exit(script("all", draw))
