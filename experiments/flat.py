"""Claim under test: leaders reach flatter minima, and bring workers that start in different basins into one.

What:     at the end of runs of identical workers (preset cpu of ``experiments.leaders``), each method at its own rate
          as far as one has been chosen: at the mean of the workers the largest curvature of the training loss (power
          iteration), and how much that loss rises in random directions of 5 % of the parameters' norm; between the two
          workers furthest apart the highest point of the straight way above the line between its ends, at the start,
          where every worker has a model of its own, and at the end. "No exchange" is the control without any meeting.
          (Workers mirrored about a saddle, with a leader and without: ``experiments.theory_lsgd``, L3.)
          cpu: Fashion-MNIST, an MLP, 8 epochs, five seeds; 2,048 training images. smoke: digits, D-PSGD alone.
Command:  python -m experiments.flat --data DIR
Hardware: one CPU core; 40 runs of about 4 s.
Expect:   open. Without meeting, the barrier stays; with any method it vanishes, leader or not.
"""

from itertools import combinations

import numpy as np
import pandas as pd
import torch

from aldsgd.data import normalise
from aldsgd.network import mean_row
from aldsgd.theory.trajectories import Objective, curvature
from experiments.command import command
from experiments.configuration import RunConfig
from experiments.options import Execution
from experiments.rates import LEADERS
from experiments.runner import prepare
from experiments.scales import LEADING, SMOKE, method
from experiments.theory_common import kept, parser, run

COMPARED = (
    "no exchange", "D-PSGD", "all-reduce", "AL-DSGD on D-PSGD", "AL-DSGD, receiver judges, fading", "LSGD", "EASGD",
    "DPPF",
)  # fmt: skip
RADIUS, DIRECTIONS, SAMPLES = 0.05, 10, 2048
PLACES = np.linspace(0.1, 0.9, 9)


def configurations(preset: str, seed: int) -> dict[str, RunConfig]:
    """Method -> run."""
    if preset == "smoke":
        return {"D-PSGD": method(SMOKE.but(seed=seed), "D-PSGD")}
    rates = {"no exchange": LEADERS["identical"]["D-PSGD"]} | LEADERS["identical"]
    return {label: method(LEADING.but(lr=rates[label], seed=seed), label) for label in COMPARED if label in rates}


def barrier(objective: Objective, models: torch.Tensor) -> tuple[float, float]:
    """(height above the line between its ends of the way between the two models (w, P) furthest apart, how far that
    is, relative to their norms)."""
    i, j = max(combinations(range(len(models)), 2), key=lambda pair: (models[pair[0]] - models[pair[1]]).norm().item())
    a, b = models[i], models[j]
    ends = [objective.loss(end).item() for end in (a, b)]
    heights = [objective.loss(a.lerp(b, s)).item() - (1 - s) * ends[0] - s * ends[1] for s in PLACES]
    return max(heights), (2 * (a - b).norm() / (a.norm() + b.norm())).item()


@torch.no_grad()
def rise(objective: Objective, model: torch.Tensor, seed: int) -> float:
    """Mean rise of the loss in random directions."""
    ways = torch.randn(DIRECTIONS, len(model), generator=torch.Generator().manual_seed(seed))
    radius = RADIUS * model.norm()
    found = [objective.loss(model + radius * way / way.norm()).item() for way in ways]
    return float(np.mean(found)) - objective.loss(model).item()


def one_run(label: str, config: RunConfig, data: str | None) -> list[list[dict]]:
    """[the one row of a run]."""
    trainer = prepare(config, Execution(data=data))
    inputs = normalise(trainer.data.train_inputs[:SAMPLES], trainer.data.mean, trainer.data.std, torch.float32)
    objective = Objective(trainer.build(), inputs, trainer.data.train_targets[:SAMPLES])
    with torch.no_grad():
        before, _ = barrier(objective, trainer.workers.parameters)
    result = trainer.run()
    mean = mean_row(trainer.workers.parameters).float()
    largest, residual = curvature(objective, mean)
    with torch.no_grad():
        after, apart = barrier(objective, trainer.workers.parameters)
        loss = objective.loss(mean).item()
    row = {
        "method": label, "seed": config.seed, "lr": config.lr, "accuracy": result.final["averaged_accuracy"],
        "loss": loss, "curvature": largest, "residual": residual, "rise": rise(objective, mean, config.seed),
        "barrier_before": before, "barrier": after, "apart": apart,
    }  # fmt: skip
    return [[row]]


def tables(options) -> dict[str, pd.DataFrame]:
    torch.set_num_threads(1)
    rows = []
    for seed in options.seeds:
        for label, config in configurations(options.preset, seed).items():
            what = {"method": label, "config": config.record()}
            rows += kept(options, what, lambda label=label, config=config: one_run(label, config, options.data))[0]
        print(f"  seed {seed}: {len(rows)} runs done", flush=True)
    return {"flat": pd.DataFrame(rows)}


def main(_session) -> None:
    p = parser(__doc__, seeds=(0, 1, 2, 3, 4))
    p.add_argument("--data", default=None, metavar="DIR", help="folder of image data sets (default: $ALDSGD_DATA)")
    run("flat", p, tables)


if __name__ == "__main__":
    command(main)
