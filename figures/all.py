"""Draw every figure whose experiments have complete runs. python -m figures.all --results results --out figures"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from aldsgd.listings import MissingRuns, names
from figures import primary, style
from figures.common import overview, script
from tables.primary import needed


def figure_of(name: str) -> Callable[[Path, Path, float], list[Path]]:
    """What draws an experiment: ``draw`` of the module of its name, or else an overview."""
    if name.isidentifier() and find_spec(f"figures.{name}"):
        module = import_module(f"figures.{name}")
        if hasattr(module, "draw") and not hasattr(module, "figure_of"):
            return module.draw
    return partial(overview, name=name)


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw what is listed; returns the files written. Raises ConfigError where nothing has complete runs."""
    written, missing = [], []
    for name in names(results):
        try:
            written += figure_of(name)(results, out, width)
        except MissingRuns as error:
            missing.append(error)
    if any(needed(results).values()):
        written += primary.draw(results, out, width)
    if not written:
        raise missing[0]
    for error in missing:
        print(f"left out: {error}", file=sys.stderr)
    return written


if __name__ == "__main__":
    sys.exit(script("all", draw))
