"""How the theory's numbers become words: rules for verdicts, and how numbers are written."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import bdtrik

from aldsgd.statistics import Interval
from tables.base import markdown

BELOW_ONE = 1 - 1e-9
#: The tables of one script by name.
Frames = dict[str, pd.DataFrame]


class Statement(NamedTuple):
    """``text``: what is claimed; ``verdict``: holds, fails, or holds under ...; ``number``: what was found; ``model``:
    of which problem, where not that of its section; ``code``: whether it can fail by a mistake of the code alone."""

    text: str
    verdict: str
    number: str
    model: str = ""
    code: bool = False


def judge(cases: Iterable[tuple[str, bool]]) -> str:
    """The verdict on named cases: holds, fails, or where it holds, the shorter list spelt out.

    A name stands for all its cases: one that fails makes it fail.
    """
    cases = list(dict.fromkeys(cases))
    bad = list(dict.fromkeys(name for name, holds in cases if not holds))
    good = list(dict.fromkeys(name for name, _ in cases if name not in bad))
    if not cases:
        return "not measured"
    if not bad:
        return "holds"
    if not good:
        return "fails"
    if len(good) <= len(bad):
        return f"holds under: {'; '.join(good)}. Fails elsewhere"
    return f"holds except under: {'; '.join(bad)}"


def number(value: float) -> str:
    """Three significant digits; what is zero but for rounding is 0."""
    if abs(value) < 1e-12:
        return "0"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def spread(values) -> str:
    """The range of some numbers."""
    values = np.asarray(list(values), dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return "none"
    low, high = number(values.min()), number(values.max())
    return low if low == high else f"{low} to {high}"


def interval(found: Interval) -> str:
    half = "" if math.isnan(found.half_width) else f" ± {number(found.half_width)}"
    return f"{number(found.mean)}{half}"


def few_enough(misses: int, tests: int) -> bool:
    """Whether so many of the 95 % intervals may miss the truth by chance, at the level of 1 %."""
    if tests == 0:
        return False
    allowed = math.ceil(float(bdtrik(0.99, tests, 0.05)))
    return misses <= allowed


def label(row) -> str:
    graphs = int(row["graphs"])
    name = row["graph"] if "graph" in row else f"{row['level']} %" if str(row["level"])[0].isdigit() else row["level"]
    order = " (released order)" if row.get("order") == "released" else ""
    return f"{name}{f' x {graphs}' if graphs > 1 else ''}{order}".replace("paper:", "")


def table(frame: pd.DataFrame) -> str:
    """A small Markdown table of text."""
    return "\n".join(markdown([list(frame.columns), *frame.astype(str).to_numpy().tolist()]))
