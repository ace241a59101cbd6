"""The eight primary comparisons, what was claimed, and the most that could have been seen. python -m figures.primary"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from figures import style
from figures.common import ends, script
from tables.primary import PRIMARY, decisions, needed

OURS, CEILING, CLAIMED = "black", "0.55", style.ALERT


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Comparisons not yet measured have an empty line."""
    decided = decisions(needed(results))
    places = np.arange(len(PRIMARY))
    with style.sheet(width):
        fig, ((axes,),) = style.grid(1, 1, 3.9, 6.2)
        mean, half = ends([found.most for found in decided.values()])
        axes.errorbar(mean, places + 0.18, xerr=half, color=CEILING, marker="|", markersize=8,
                      markeredgecolor=CEILING, linestyle="none")  # fmt: skip
        mean, half = ends([found.difference for found in decided.values()])
        axes.errorbar(mean, places - 0.12, xerr=half, color=OURS, marker="o", markersize=5, linestyle="none")
        claimed = [np.nan if one.claimed is None else 100 * one.claimed for one in PRIMARY]
        axes.plot(claimed, places - 0.12, color=CLAIMED, marker="D", markersize=4.5, linestyle="none")
        axes.axvline(0, color="0.4", linewidth=0.6)
        names, room = [], 1.5 if style.narrow() else 3.2
        for one, (_, _, p, said) in decided.items():
            said += "" if p is None else f", Holm's p {p:.2g}"
            parts = f"{one.name} ({one.claim}): {said}", one.text
            names.append("\n".join(style.wrapped(part, style.SMALLEST, room) for part in parts))
        axes.set_yticks(places, names, fontsize=style.SMALLEST)
        axes.set_ylim(len(PRIMARY) - 0.5, -0.5)
        axes.grid(False, axis="y")
        axes.set_xlabel("percentage points of test accuracy")
        looks = (("measured, 95 % interval", OURS, "o"), ("claimed", CLAIMED, "D"),
                 ("ceiling: all-reduce, same reference", CEILING, "|"))  # fmt: skip
        handles = [
            Line2D([], [], color=color, marker=marker, linestyle="-" if marker == "|" else "none", label=label,
                   markeredgecolor=CEILING if marker == "|" else "white")
            for label, color, marker in looks
        ]  # fmt: skip
        style.key(fig, handles)
        style.heading(fig, "primary comparisons, preset mid: CIFAR-10, every method at its own best rate")
        return style.save(fig, out / "primary")


if __name__ == "__main__":
    sys.exit(script("primary", draw))
