"""Claim: what the theorems assume of the losses, and what AL-DSGD assumes of a mini-batch, measured while training.

What:     along real AL-DSGD runs (8 workers, the paper's 53.8 % graph), with IID and Dirichlet shards: smoothness by
          Hessian-vector power iteration and by gradient differences, mini-batch gradient variance, dissimilarity
          zeta^2; the rank correlation between the workers' mini-batch losses (16 samples) and their losses on the whole
          training set and test accuracies; how often the chosen leader is the truly best neighbour, and how often the
          largest-degree one is, against chance. At every step, the longest way ||x_i - x_leader|| over which the
          corrective force pulls.
Data:     digits with logistic regression and an MLP; Fashion-MNIST, else CIFAR-10, with the small ResNet where --data
          (or $ALDSGD_DATA) has it. The CSV says what was used.
Command:  python -m experiments.theory_assumptions [--data DIR]
          Stopped, it goes on where it was with the same command.
Hardware: two CPU cores. Time: about fifteen minutes with images, one without.
Expect:   once they have exchanged models, a loss of 16 samples ranks workers little better than chance, and worse
          than chance under Dirichlet shards, where it tells whose data are easy; the largest-degree candidate is the
          best one more often than the one with the smallest loss. The force stays bounded.
"""

import hashlib
from functools import partial

import numpy as np
import pandas as pd
import torch

from aldsgd import models
from aldsgd.data import normalise
from aldsgd.datasets import Data, load
from aldsgd.errors import ConfigError
from aldsgd.graphs import paper_graph
from aldsgd.leaders import ALDSGD
from aldsgd.network import mean_row
from aldsgd.settings import Settings
from aldsgd.theory import records
from aldsgd.theory.trajectories import (
    LeaderProbe,
    Objective,
    curvature,
    difference_quotient,
    dissimilarity,
    gradient_variance,
)
from aldsgd.training import Trainer
from baselines.dpsgd import DPSGD
from experiments.command import command
from experiments.theory_common import kept, parser, run

SPLITS = {"iid": {"split": "iid"}, "dirichlet 0.1": {"split": "dirichlet", "dirichlet_alpha": 0.1, "min_shard": 16}}
LEVEL = "53.8"
BATCH = 16
DECAY = 5e-4
# (data set, model, learning rate, training and test images, epochs, epochs with a measurement, steps between probes)
SETTINGS = {
    "smoke": [("digits", "logistic", 0.1, None, None, 2, (0, 2), 6)],
    "cpu": [("digits", "logistic", 0.1, None, None, 30, (0, 3, 10, 30), 6),
            ("digits", "mlp", 0.1, None, None, 30, (0, 3, 10, 30), 6)],
}  # fmt: skip
IMAGES = ("resnet_small", 0.1, 2000, 1000, 6, (0, 2, 6), 12)
CURVATURE_SAMPLES = 512


def image_setting(options) -> tuple | None:
    """Settings on the first image data set that can be read, or None."""
    if options.preset == "smoke":
        return None
    for name in ("fashionmnist", "cifar10"):
        try:
            load(name, options.data)
        except ConfigError:
            continue
        return (name, *IMAGES)
    if options.data is not None:
        raise ConfigError(f"no fashionmnist or cifar10 in --data {options.data}: leave it out to use the digits alone")
    return None


def one_run(setting: tuple, split: str, seed: int, data: Data) -> list[list[dict]]:
    """[measurements at some epochs, probes of the leaders, the way to the leaders by epoch] of one run."""
    dataset, model, lr, _, _, epochs, measured, every = setting
    algorithm = ALDSGD(DPSGD(paper_graph(LEVEL)))
    build = partial(models.build, model, data.outputs, data.shape)
    settings = Settings(epochs=epochs, lr=lr, batch=BATCH, weight_decay=DECAY, seed=seed, **SPLITS[split])
    trainer = Trainer(algorithm, build, data, settings)
    inputs = normalise(data.train_inputs, data.mean, data.std, torch.float32)
    shards = [torch.from_numpy(shard) for shard in trainer.batches.shards]
    module = build()  # the architecture; its parameters are not read
    local = [Objective(module, inputs[shard], data.train_targets[shard], DECAY) for shard in shards]
    pick = torch.from_numpy(np.random.default_rng(seed).permutation(len(inputs))[:CURVATURE_SAMPLES])
    whole = Objective(module, inputs[pick], data.train_targets[pick], DECAY)
    probe = LeaderProbe(trainer, build(), every)
    shared = {"dataset": dataset, "model": model, "split": split, "seed": seed, "train_images": len(inputs)}
    rows, quotients = [], []

    def along(step, losses):
        nonlocal before
        if step % every == 0:
            now = mean_row(trainer.workers.parameters).float()
            if not torch.equal(now, before):
                quotients.append(difference_quotient(whole, before, now))
            before = now

    before = mean_row(trainer.workers.parameters).float()
    for epoch in range(epochs + 1):
        if epoch in measured:
            centre = mean_row(trainer.workers.parameters)
            mean = centre.float()
            size, residual = curvature(whole, mean)
            rng = np.random.default_rng([seed, epoch])
            noise = [
                gradient_variance(f, row, BATCH, 8, rng)
                for f, row in zip(local, trainer.workers.parameters, strict=True)
            ]
            zeta2, norm2 = dissimilarity(local, mean)
            rows.append(
                {
                    **shared, "epoch": epoch, "lr": lr, "curvature": size, "residual": residual,
                    "quotient": max(quotients, default=np.nan), "variance": float(np.mean(noise)),
                    "largest_variance": float(np.max(noise)), "zeta2": zeta2, "gradient2": norm2,
                    "consensus": trainer.hosting.consensus_distance(trainer.workers.parameters, centre),
                }
            )  # fmt: skip
            quotients.clear()
        if epoch < epochs:
            trainer.train_epoch(epoch, along)
    probes = [{**shared, "epoch": row["step"] / trainer.steps, **row} for row in probe.rows]
    pulls = [
        {**shared, "epoch": epoch, "lr": lr, **{f"largest_{name}": max(row[name] for row in own) for name in
                                                ("distance", "gradient")}}
        for epoch in range(epochs)
        if (own := probe.pulls[epoch * trainer.steps : (epoch + 1) * trainer.steps])
    ]  # fmt: skip
    return [rows, probes, pulls]


def fingerprint(data: Data) -> str:
    """SHA-256 of the training and test samples."""
    found = hashlib.sha256()
    for tensor in (data.train_inputs, data.train_targets, data.test_inputs, data.test_targets):
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def tables(options) -> dict[str, pd.DataFrame]:
    settings = [*SETTINGS[options.preset]]
    images = image_setting(options)
    if images is not None:
        settings.append(images)
    recorded = records.described(options.results, "theory_assumptions")
    if recorded and recorded["preset"] == "cpu":
        before = set(records.read(options.results, "theory_assumptions")[1]["assumptions"]["dataset"])
        now = {setting[0] for setting in settings}
        if before != now:
            raise ConfigError(
                f"{options.results} holds this script's tables on {', '.join(sorted(before))}, and now it finds "
                f"{', '.join(sorted(now))}: give --data, or choose another --results"
            )
    names = ("assumptions", "assumptions_leaders", "assumptions_force")
    rows = {name: [] for name in names}
    for setting in settings:
        data = load(setting[0], options.data).subset(setting[3], setting[4])
        for split in SPLITS:
            for seed in options.seeds:
                what = {"setting": setting, "split": split, "seed": seed, "data": fingerprint(data)}
                found = kept(options, what, partial(one_run, setting, split, seed, data))
                for name, more in zip(names, found, strict=True):
                    rows[name] += more
            print(f"  {setting[0]}, {setting[1]}, {split}: {len(options.seeds)} runs done", flush=True)
    return {name: pd.DataFrame(more) for name, more in rows.items()}


def main(_session) -> None:
    p = parser(__doc__, seeds=(0, 1, 2, 3, 4))
    p.add_argument(
        "--data", default=None, metavar="DIR", help="folder of image data sets (default: $ALDSGD_DATA, else data)"
    )
    run("theory_assumptions", p, tables)


if __name__ == "__main__":
    command(main)
