"""Claim: the four advantages over elastic averaging that LSGD's abstract (arXiv 1905.10395) states.

What:     L1 stationary points stay where they are, L2 no deceleration by a pull to the average, L3 the curse of
          symmetry is broken, L4 less communication. Batch versions on landscapes with known minima
          (``aldsgd.theory.landscapes``): LGD beside EASGD and beside workers that never meet, from random starts, and
          from exactly mirrored ones whose mean is a saddle, with and without a small disturbance; strengths from weak
          to about the largest curvature. L4 from the library's own steps: models sent, and modelled time, of one
          exchange.
Command:  python -m experiments.theory_lsgd
Hardware: one CPU core. Time: about half a minute.
Expect:   the leader rests at stationary points and the others, where the pull is weak, do not; EASGD's centre rests off
          them. Mirrored workers hold EASGD's centre at the saddle; whether LGD's mean leaves it depends on the pull.
"""

import numpy as np
import pandas as pd

from aldsgd.links import LINKS
from aldsgd.step import Meter
from aldsgd.theory.landscapes import METHODS, Landscape, descend, egg_box, factorisation, wells
from baselines.allreduce import AllReduce
from baselines.easgd import EASGD
from baselines.lsgd import LSGD
from baselines.lsgd_plus import LSGDPlus
from experiments.command import command
from experiments.theory_common import parser, run

RUNS = {"smoke": 6, "cpu": 24}
STRENGTHS = {"smoke": (0.3, 3.0), "cpu": (0.1, 0.3, 1.0, 3.0)}
MOST = {"smoke": 400, "cpu": 4000}
WORKERS, ETA = 4, 0.05
NEAR, STILL = 1e-3, 1e-5  # of f or of a distance; of a gradient
TRAPPED = 0.5  # of the saddle's excess over the minimum
SIZES = {"smoke": (4, 8), "cpu": (2, 4, 8, 16, 64)}
PARAMETERS = 1_000_000


def largest(values: np.ndarray) -> float:
    """The maximum, NaN of nothing."""
    return float(values.max()) if values.size else np.nan


def mean(values: np.ndarray) -> float:
    """The mean, NaN of nothing."""
    return float(values.mean()) if values.size else np.nan


def norms(landscape: Landscape, x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(landscape.gradient(x), axis=-1)


def of_runs(landscape: Landscape, seed: int, preset: str) -> tuple[list[dict], list[dict]]:
    """Where every method rests from random starts, and how long its best worker takes."""
    start = landscape.starts(np.random.default_rng([seed, 1]), RUNS[preset], WORKERS)
    free = descend(landscape, "no exchange", 0.0, start, ETA, MOST[preset])
    target = landscape.value(free.x).min(axis=1) + NEAR
    apart = np.linalg.norm(free.x - free.x.mean(axis=1, keepdims=True), axis=-1).max(axis=1) > 0.1
    own = descend(landscape, "no exchange", 0.0, start, ETA, MOST[preset], target).reached
    rest, speed = [], []
    for method in METHODS:
        for strength in STRENGTHS[preset] if method != "no exchange" else (0.0,):
            path = descend(landscape, method, strength, start, ETA, MOST[preset], target)
            x, centre = path.x[path.rested], path.centre[path.rested]
            values, slopes = landscape.value(x), norms(landscape, x)
            best = np.take_along_axis(slopes, values.argmin(axis=1)[:, None], axis=1)
            gaps = np.linalg.norm(x - x.mean(axis=1, keepdims=True), axis=-1)
            common = np.repeat(free.x[free.rested][:, :1], WORKERS, axis=1)
            kept = descend(landscape, method, strength, common, ETA, 1)
            place = {"seed": seed, "landscape": landscape.name, "method": method, "strength": strength}
            rest.append(
                place
                | {
                    "workers": WORKERS, "runs": len(start), "rested": path.rested.mean(),
                    "best_gradient": largest(best), "off": mean(slopes > STILL),
                    "centre_gradient": largest(norms(landscape, centre)),
                    "mean_gradient": largest(norms(landscape, x.mean(axis=1))),
                    "agreed": mean(gaps.max(axis=1) < NEAR),
                    "best_excess": mean(values.min(axis=1) - landscape.minimum),
                    "kept": largest(np.abs(kept.x - common)) / ETA,
                }
            )  # fmt: skip
            taken, alone = path.reached[apart], own[apart]
            speed.append(
                place
                | {
                    "runs": int(apart.sum()), "reached": mean(np.isfinite(taken)),
                    "slower": mean(taken > alone + 1), "faster": mean(taken < alone - 1),
                    "ratio": float(np.median((taken + 1) / (alone + 1))) if len(taken) else np.nan,
                }
            )  # fmt: skip
    return rest, speed


def mirrored(landscape: Landscape, seed: int, preset: str) -> list[dict]:
    """What pairs of workers on both sides of a saddle come to; values in units of the saddle's excess."""
    start = landscape.mirrored(np.random.default_rng([seed, 2]), RUNS[preset], WORKERS)
    disturbed = start + 1e-3 * np.random.default_rng([seed, 3]).standard_normal(start.shape)
    height, rows = float(landscape.value(landscape.saddle)) - landscape.minimum, []
    for noise, points in ((0.0, start), (1e-3, disturbed)):
        for method in METHODS:
            for strength in STRENGTHS[preset] if method != "no exchange" else (0.0,):
                path = descend(landscape, method, strength, points, ETA, MOST[preset])
                found = {
                    "best": landscape.value(path.x).min(axis=1), "worst": landscape.value(path.x).max(axis=1),
                    "mean": landscape.value(path.x.mean(axis=1)), "centre": landscape.value(path.centre),
                }  # fmt: skip
                excess = {name: (value - landscape.minimum) / height for name, value in found.items()}
                trapped = {name: np.where(np.isnan(each), np.nan, each > TRAPPED) for name, each in excess.items()}
                rows.append(
                    {"seed": seed, "landscape": landscape.name, "method": method, "strength": strength,
                     "disturbed": noise, "runs": len(points), "rested": path.rested.mean()}
                    | {name: each.mean() for name, each in excess.items()}
                    | {f"{name}_trapped": each.mean() for name, each in trapped.items()}
                )  # fmt: skip
    return rows


def traffic(preset: str) -> list[dict]:
    """Of one exchange, or of the share of it that a period of four with groups has."""
    rows, link = [], LINKS["10gbe"]
    for n in SIZES[preset]:
        methods = {
            "LSGD": (LSGD(n, tau=4), 4), "LSGD, two groups": (LSGD(n, 2, tau=4, tau_local=1), 4),
            "LSGD+": (LSGDPlus(n, 4), 4), "EASGD, server": (EASGD(n, tau=4), 4), "all-reduce": (AllReduce(n), 1),
        }  # fmt: skip
        for name, (algorithm, steps) in methods.items():
            if name == "LSGD, two groups" and n < 4:
                continue
            widths = {"x": PARAMETERS} | {key: PARAMETERS for key, shape in algorithm.state.items() if shape == "row"}
            meter = Meter({key: (width, 4) for key, width in widths.items()}, n, link)
            for t in range(steps):
                meter.count(algorithm.step(t))
            rows.append({"method": name, "workers": n, "models": meter.bytes / (4 * PARAMETERS),
                         "seconds": meter.modelled, "one_model": link.seconds(4 * PARAMETERS)})  # fmt: skip
    return rows


def tables(options) -> dict[str, pd.DataFrame]:
    rest, speed, symmetry = [], [], []
    for seed in options.seeds:
        for landscape in (wells(0.2), egg_box(), factorisation()):
            rests, speeds = of_runs(landscape, seed, options.preset)
            rest, speed = rest + rests, speed + speeds
        for landscape in (wells(0.0), factorisation()):
            symmetry += mirrored(landscape, seed, options.preset)
        print(f"  seed {seed}: done", flush=True)
    return {
        "lsgd_rest": pd.DataFrame(rest),
        "lsgd_speed": pd.DataFrame(speed),
        "lsgd_symmetry": pd.DataFrame(symmetry),
        "lsgd_traffic": pd.DataFrame(traffic(options.preset)),
    }


def main(_session) -> None:
    run("theory_lsgd", parser(__doc__, seeds=(0, 1, 2, 3, 4)), tables)


if __name__ == "__main__":
    command(main)
