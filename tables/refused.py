"""All bad input and all faults that a test tries, with what is said or what becomes of it: docs/bad_input.md."""

from pathlib import Path
from typing import NamedTuple

from tables.base import Table, table

TESTS = Path(__file__).resolve().parents[1] / "tests"


class Fault(NamedTuple):
    """What goes wrong, what becomes of it, and the test that tries it, "file.py::name"."""

    what: str
    becomes: str
    test: str


def faults() -> list[Fault]:
    """Of tests/faults.txt, one a line."""
    lines = (TESTS / "faults.txt").read_text(encoding="utf-8").splitlines()
    return [Fault(*(part.strip() for part in line.split(" | "))) for line in lines]


def refused(root: Path) -> Table:
    """One row a command line of tests/refused.txt, then one a fault."""
    lines = (TESTS / "refused.txt").read_text(encoding="utf-8").splitlines()
    rows = [
        {
            "what goes wrong": f"`experiments.run {options}`",
            "what becomes of it": f"exit code 2: {said}",
            "test": "test_bad_input.py::test_is_refused_in_one_line",
        }
        for options, said in (line.split(" | ") for line in lines)
    ]
    rows += [dict(zip(("what goes wrong", "what becomes of it", "test"), fault, strict=True)) for fault in faults()]
    caption = (
        f"{len(rows)} kinds of bad input and faults, each tried by the test that is named. Bad input is one line that "
        "says what is wrong, of which a part is shown, and exit code 2; nothing is overwritten."
    )
    return table(caption, rows)
