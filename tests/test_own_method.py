"""A method in one file of the user's: on the command line, in an experiment, in its table and figure, the package as it
is."""

import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from aldsgd.links import Pairs
from aldsgd.network import LocalNetwork
from aldsgd.records import RunStore
from aldsgd.step import Exchange, Gossip
from baselines.registry import look
from tests.stepping import rule, state_of, take

ROOT = Path(__file__).parents[1]
EASGD = '''
"""Elastic averaging SGD, synchronous (Zhang et al. 2015, arXiv 1412.6651)."""

from dataclasses import dataclass

from aldsgd import Algorithm, Exchange, Gossip, Pairs, Step
from aldsgd.methods import Method, Options, option


class EASGD(Algorithm):
    """Every tau steps x_i <- x_i - eta g_i - alpha (x_i - c), c <- c + alpha sum_i (x_i - c), with the old values."""

    centres = 1

    def __init__(self, n, alpha=0.05, tau=2):
        self.n, self.tau = n, tau
        star = Pairs(tuple(((i, n),) for i in range(n)))
        self.elastic = Step(before=Exchange(star, Gossip(alpha)))

    def step(self, t):
        return self.elastic if t % self.tau == 0 else Step()


@dataclass(frozen=True)
class Elastic(Options):
    """Options of EASGD."""

    alpha: float = option(0.05, "elastic force toward the centre")
    tau: int = option(2, "steps between exchanges")


METHOD = Method("easgd:METHOD", "EASGD", lambda o, s: EASGD(s.workers, o.alpha, o.tau), Elastic, graph=False)
'''
VERSUS = '''
"""Claim: EASGD beside D-PSGD."""

from experiments.configuration import RunConfig
from experiments.scales import script

SEEDS = {"smoke": (0, 1)}


def configurations(preset, seed):
    base = RunConfig(model="logistic", train_images=256, test_images=64, epochs=2, lr=0.1, seed=seed)
    return [("D-PSGD", base.but(method="dpsgd")), ("EASGD", base.but(method="easgd:METHOD", alpha=0.1))]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
'''


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def text_of(pdf: Path) -> bytes:
    """What a PDF draws, decompressed; letters of TrueType fonts stand in it as glyphs, colours as numbers."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf.read_bytes(), flags=re.DOTALL)
    found = b""
    for stream in streams:
        try:
            found += zlib.decompress(stream)
        except zlib.error:
            continue
    return found


def trains(folder: Path, *own: str) -> str:
    """Train a method of the folder; what was printed."""
    short = ["--model", "logistic", "--train-images", "256", "--test-images", "64", "--epochs", "2", "--lr", "0.1"]
    done = call(folder, "experiments.run", "--method", *own, *short, "--results", "mine")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of the user's with a method and an experiment, and the CSV of one run."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "easgd.py").write_text(EASGD)
    (folder / "versus.py").write_text(VERSUS)
    trains(folder, "easgd:METHOD", "--alpha", "0.1")
    (csv,) = (folder / "mine" / "runs").glob("*.csv")
    return folder, csv


def test_a_method_of_ones_own_is_one_file(trained):
    folder, _ = trained
    trains(folder, "easgd:EASGD", "--tau", "3")
    runs = RunStore(folder / "mine").runs()
    assert len(runs) == 2 and all(run.config["method_source"] for run in runs)
    assert {(run.config["alpha"], run.config["tau"]) for run in runs} == {(0.1, 2), (0.05, 3)}
    for run in runs:
        assert run.workers["worker"].max() == 7, "the centre does not count among the workers"
        centre = run.centres
        assert len(centre) == 2 and centre["test_accuracy"].between(0, 1).all()
        last = run.workers[run.workers["epoch"] == 2]["test_accuracy"]
        assert run.network["worst_accuracy"].iloc[-1] == last.min()
        steps = int(run.network["step"].iloc[-1])
        assert run.network["logical_bytes"].iloc[-1] == -(-steps // run.config["tau"]) * 2 * 8 * 650 * 4

    done = call(folder, "versus", "--preset", "smoke", "--results", "mine", "--quiet")
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert any(line.startswith("| EASGD") for line in table) and any(line.startswith("| D-PSGD") for line in table)
    listing = json.loads((folder / "mine" / "experiments" / "versus.json").read_text())
    assert {run["label"] for run in listing["runs"]} == {"D-PSGD", "EASGD"}
    done = call(folder, "figures.all", "--results", "mine", "--out", "drawn")
    assert done.returncode == 0, done.stderr
    drawn = text_of(folder / "drawn" / "versus.pdf")
    for name in ("EASGD", "D-PSGD"):
        shares = (int(look(name).color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert all(f"{share:.10f}".rstrip("0").encode()[:7] in drawn for share in shares), f"{name} has its colour"

    (folder / "easgd.py").write_text(EASGD.replace("def step(self, t):", "def step(self, t):  # another source"))
    assert "0 already complete" in trains(folder, "easgd:METHOD", "--alpha", "0.1")
    assert len(RunStore(folder / "mine").runs()) == 6  # one of the experiment's runs was there already


def test_elastic_averaging_conserves_the_sum_and_diverges_beyond_its_critical_alpha():
    """Synchronous EASGD on F = h x^2 / 2: stable exactly below alpha = 2 (2 - eta h) / (2 + n (2 - eta h))."""
    namespace: dict = {}
    exec(compile(EASGD, "easgd.py", "exec"), namespace)
    rng, eta, n = np.random.default_rng(0), 0.5, 4
    critical = 2 * (2 - eta) / (2 + n * (2 - eta))
    for alpha, stable in ((0.98 * critical, True), (1.02 * critical, False)):
        algorithm, network = namespace["EASGD"](n, alpha, tau=1), LocalNetwork(n, centres=1)
        models = torch.tensor(rng.normal(size=(n + 1, 3)))
        state, local = state_of(algorithm, models), rule(models, network, eta)
        size = models.abs().max()
        for t in range(600):
            before = models.clone()
            before[:n] -= eta * models[:n]
            take(algorithm, t, network, models, models[:n].clone(), eta, torch.zeros(n), state, local)
            torch.testing.assert_close(models.sum(dim=0), before.sum(dim=0), rtol=1e-12, atol=1e-9)
        assert (models.abs().max() < size) == stable


def test_a_centre_of_a_star_is_what_its_equation_says():
    rng, alpha, n = np.random.default_rng(3), 0.07, 5
    x, c = rng.normal(size=(n, 4)), rng.normal(size=4)
    network, models = LocalNetwork(n, centres=1), torch.tensor(np.vstack([x, c]))
    star = Exchange(Pairs(tuple(((i, n),) for i in range(n))), Gossip(alpha))
    hood = network.neighbourhood(star.links)
    network.mix(models, star.rule.rows(hood, None, 0.1), hood)
    expected = np.vstack([x - alpha * (x - c), c + alpha * (x - c).sum(axis=0)])
    np.testing.assert_allclose(models.numpy(), expected, rtol=0, atol=1e-13)


def test_the_users_own_frame_reads_the_records(trained):
    """A record is plain CSV: another program needs nothing of this package to read it."""
    rows = pd.read_csv(trained[1])
    assert rows["worker"].dropna().tolist() == [*range(9)] * 2 and rows["train_loss"].isna().sum() == 2
