"""Where the other rooms of the repository are: beside this package in a checkout, inside it where it was installed.

An installation brings one top-level name, ``aldsgd``: ``baselines``, ``experiments``, ``tables`` and ``figures`` lie in
``aldsgd/_parts`` and can be imported once ``ready`` has been called, as the console command and the lazy names of the
package do.
"""

import sys
from functools import cache
from pathlib import Path

INSTALLED = Path(__file__).resolve().parent / "_parts"


def folder() -> Path:
    """The folder that holds the other rooms."""
    return INSTALLED if INSTALLED.is_dir() else INSTALLED.parents[1]


@cache
def ready() -> None:
    """Let the other rooms be imported."""
    if str(folder()) not in sys.path:
        sys.path.insert(0, str(folder()))
