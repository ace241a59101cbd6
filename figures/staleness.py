"""The mean and the worst worker by how long messages are on their way. python -m figures.staleness"""

import sys
from pathlib import Path

from figures import style
from figures.common import script
from figures.losses import draw_over


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    return draw_over(
        results,
        out,
        width,
        "staleness",
        lambda c: f"{c['latency'] / c['compute_seconds']:g}",
        "delay of a message (gradients)",
    )


if __name__ == "__main__":
    sys.exit(script("staleness", draw))
