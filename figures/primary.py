"""The eight primary comparisons, what was claimed, and the most that could have been seen. python -m figures.primary"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from figures import style
from figures.common import ends, grid, script
from tables.primary import LEVEL, PRIMARY, corrected, needed

OURS, CEILING, CLAIMED = "#D55E00", "0.55", "#0072B2"


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Comparisons not yet measured have an empty line."""
    source = needed(results)
    differences = {one.name: one.difference(source) for one in PRIMARY}
    ceilings = [one.most(source) for one in PRIMARY]
    adjusted = corrected(differences)
    places = np.arange(len(PRIMARY))
    with style.sheet():
        fig, ((axes,),) = grid(1, 1, 3.2)
        mean, half = ends(ceilings)
        axes.errorbar(mean, places + 0.18, xerr=half, color=CEILING, marker="|", markersize=9, linestyle="none")
        mean, half = ends(list(differences.values()))
        axes.errorbar(mean, places - 0.12, xerr=half, color=OURS, marker="o", markersize=5, linestyle="none")
        claimed = [np.nan if one.claimed is None else 100 * one.claimed for one in PRIMARY]
        axes.plot(claimed, places - 0.12, color=CLAIMED, marker="D", markersize=4.5, linestyle="none")
        axes.axvline(0, color="0.4", linewidth=0.6)
        names = []
        for one in PRIMARY:
            p = adjusted.get(one.name)
            said = "not measured" if p is None else f"Holm's p {p:.2g}" + " *" * (p < LEVEL)
            names.append(f"{one.name} ({one.claim}) {said}\n{wrapped(one.text)}")
        axes.set_yticks(places, names, fontsize=5.5)
        axes.set_ylim(len(PRIMARY) - 0.5, -0.5)
        axes.grid(False, axis="y")
        axes.set_xlabel("percentage points of test accuracy")
        looks = (("measured, 95 % interval", OURS, "o"), ("claimed", CLAIMED, "D"),
                 ("ceiling: all-reduce, same reference", CEILING, "|"))  # fmt: skip
        handles = [
            Line2D([], [], color=color, marker=marker, linestyle="none", label=label) for label, color, marker in looks
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=3)
        fig.suptitle("primary comparisons, preset mid: CIFAR-10, every method at its own best rate", fontsize=7.5)
        return style.save(fig, out / "primary")


def wrapped(text: str, width: int = 62) -> str:
    """A sentence over at most two lines, cut at a comma or a blank."""
    if len(text) <= width:
        return text
    cut = text.rfind(" ", 0, width)
    return f"{text[:cut]}\n{text[cut + 1 :]}"


if __name__ == "__main__":
    sys.exit(script("primary", draw))
