"""What the figures of the theory share: reading their tables, and legends of plain lines."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from aldsgd.theory import records

# For what is no method: levels, workers, graphs; none is a method's colour. Told apart by marker as well.
COLORS = ("#440154", "#31688E", "#35B779", "#B8A800", "#B5396B", "#5D6D7E", "#80C000", "#6E2C00")
MARKERS = ("o", "s", "^", "v", "P", "X", "h", "*")
CORES = {"dpsgd": "D-PSGD", "matcha": "MATCHA", "dpsgd_released": "D-PSGD (released schedule)"}
LEADERS = {"dpsgd": "AL-DSGD on D-PSGD", "matcha": "AL-DSGD on MATCHA"}


def frames(results: Path, script: str) -> dict[str, pd.DataFrame]:
    """The tables of a script. Raises ConfigError, naming the command, where one is missing."""
    return records.read(results, script)[1]


def plain(number: int) -> dict:
    """Colour and marker of the line with this number."""
    return {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 4}


def panel_letter(axes: Axes, letter: str, title: str) -> None:
    axes.set_title(f"({letter}) {title}")
