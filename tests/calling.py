"""Scripts called in this process as a shell would call them."""

import contextlib
import io
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from aldsgd.environment import environment
from experiments import runner
from experiments.command import command

#: A run of well under a second.
SHORT = (
    "--quiet",
    "--epochs",
    "1",
    "--train-images",
    "64",
    "--test-images",
    "16",
    "--batch",
    "8",
    "--model",
    "logistic",
)


#: Versions and commit, which a run records, asked once: they stay, and git takes as long as a short run.
surroundings = cache(environment)


class Ended(NamedTuple):
    """How a script ended: exit code, what it printed."""

    code: int
    out: str
    err: str

    @property
    def refused(self) -> bool:
        """Whether the input was refused as it should be: exit code 2 and one line."""
        return (
            self.code == 2
            and self.err.startswith("error: ")
            and self.err.count("\n") == 1
            and not self.err[7:].isspace()
        )


def call(module, *arguments) -> Ended:
    """Call a script's ``main`` with these arguments, with nothing remembered of earlier calls."""
    runner.dataset.cache_clear()
    runner.chosen.cache_clear()
    runner._CONTENTS.clear()
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.object(sys, "argv", [module.__name__, *map(str, arguments)]),
        patch.object(runner, "environment", surroundings),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        try:
            command(module.main)
        except SystemExit as stop:
            code = stop.code
    return Ended(code, out.getvalue(), err.getvalue())


def files(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, with what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
