"""Accuracy in virtual time, and what not waiting gains by how slow one worker is. python -m figures.stragglers"""

import sys
from pathlib import Path

from aldsgd.statistics import mean_interval
from experiments.stragglers import FORMS
from figures import style
from figures.common import band, categories, curves, finish, script
from tables.base import Unit
from tables.query import Experiment
from tables.virtual import factor_of, gains

#: The factor of which the curves are shown, where it was run.
SHOWN = 3.0


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "stragglers")
    unit = Unit.of(runs)
    factors = {number: factor_of(config) for number, config in runs.conditions.items()}
    chosen = next((number for number, factor in factors.items() if factor == SHOWN), next(iter(factors)))
    with style.sheet(width):
        fig, (panels,) = style.grid(1, 2, 3.0, 2.0)
        axes = panels[0]
        if unit.scale == 100:
            style.accuracy_axis(axes, "mean worker's test accuracy (%)")
        for place, variant in enumerate(runs.variants):
            own = [entry.run for entry in runs.select(variant=variant, condition=chosen)]
            if own:
                seconds = own[0].network.set_index("epoch")["virtual_s"]
                values = curves(own, f"mean_{runs.metric}")
                mean, low, high = (unit.scale * part for part in band(values))
                style.curve(axes, place, variant, seconds[values.index].to_numpy(), mean, low, high, len(runs.variants))
        slow = f"one worker {factors[chosen]:g} times slower" if factors[chosen] else "times that differ"
        interim = runs[0].run.config.get("interim_images")
        told = f"; tests on {interim} images" if interim else ""
        axes.set(title=slow, xlabel=f"virtual time (s){told}")
        series = {v: gains(runs, v, FORMS[v]) for v in runs.variants if v in FORMS}
        ticks = sorted({factor for by_factor in series.values() for factor in by_factor})
        shown = {
            variant: [mean_interval(list(own[k].values())) if k in own else None for k in ticks]
            for variant, own in series.items()
        }
        categories(panels[1], [f"{k:g}" for k in ticks], shown, "percentage points", joined=True)
        panels[1].axhline(0, color="0.4", linewidth=0.6)
        panels[1].set(title="less the synchronous form", xlabel="one worker so many times slower")
        return finish(fig, runs, runs.variants, out)


if __name__ == "__main__":
    sys.exit(script("stragglers", draw))
