"""What was stopped or killed goes on to the rows of a whole run, also between processes."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aldsgd.checkpoint import Snapshot
from aldsgd.datasets import load
from aldsgd.errors import ConfigError
from aldsgd.records import RunStore
from aldsgd.training import Trainer
from experiments.options import Execution
from experiments.runner import train_run
from tests.crashing import crash
from tests.killed_run import RUN, RUNS
from tests.test_checkpoint import without_clocks

ROOT = Path(__file__).resolve().parents[1]


def rows_of(results):
    """The rows of the one run in a results folder, without clocks, as text."""
    (path,) = (results / "runs").glob("*.csv")
    with open(path, newline="") as file:
        return without_clocks(csv.DictReader(file))


def torchrun(size, results, kill="-1:-1", restarts=0, run="aldsgd"):
    """tests/killed_run.py under torchrun, a checkpoint every two epochs."""
    options = ["--standalone", "--nproc_per_node", str(size), "--max-restarts", str(restarts)]
    script = ["-m", "tests.killed_run", "--results", str(results), "--checkpoint-every", "2", "--timeout", "100"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ALDSGD_KILL": kill, "ALDSGD_RUN": run}
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, *script],
        cwd=ROOT, env=environment, timeout=300, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def unhit(tmp_path_factory):
    """A run on two processes to which nothing happened."""
    results = tmp_path_factory.mktemp("unhit")
    done = torchrun(2, results)
    assert done.returncode == 0 and done.stdout.count("done") == 1, done.stderr
    return rows_of(results)


def test_every_0_epochs_there_is_no_checkpoint_and_none_is_read(tmp_path):
    config = RUNS["lsgd"].but(epochs=3)
    data = load("digits").subset(1280, 100)

    def trainer():
        return Trainer(config.algorithm(10), config.build(data), data, config.settings())

    expected = without_clocks(trainer().run(checkpoints=tmp_path / "none", checkpoint_every=0).rows)
    assert not (tmp_path / "none").exists()
    crash(trainer(), tmp_path / "run", 2)
    again, trained = trainer(), []
    again.train_epoch = lambda e, *rest, train=again.train_epoch: (trained.append(e), train(e, *rest))[1]
    assert without_clocks(again.run(checkpoints=tmp_path / "run", checkpoint_every=0).rows) == expected
    assert trained == [0, 1, 2]
    for given in (dict(checkpoint_every=-1), dict(checkpoint_every=1.5)):
        with pytest.raises(ConfigError, match="checkpoint_every"):
            trainer().run(checkpoints=tmp_path / "run", **given)
    for given in ({}, dict(checkpoints=tmp_path / "run", checkpoint_every=0)):
        with pytest.raises(ConfigError, match="a deadline needs checkpoints"):
            trainer().run(deadline=1e12, **given)


def test_kill_9_and_torchrun_restarts_to_the_same_rows_bit_for_bit(tmp_path, unhit):
    # 10 steps an epoch: step 47 is in the fifth of six epochs, the newest checkpoint is that of the fourth.
    done = torchrun(2, tmp_path, kill="1:47", restarts=1)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path) == unhit
    assert not (tmp_path / "checkpoints").exists()
    assert list((tmp_path / "runs").glob("*.part")) == []


def test_a_killed_run_goes_on_with_another_number_of_processes(tmp_path, unhit):
    assert torchrun(2, tmp_path, kill="0:47").returncode != 0
    store, record = RunStore(tmp_path), RUN.record()
    assert store.load(record) is None
    # What was recorded is kept.
    part = (store.folder / f"{store.stem(record)}.csv.part").read_text().splitlines()
    assert len(part) == 1 + 4 * 9 and part[-1].startswith("4,40,,")
    (checkpoints,) = (tmp_path / "checkpoints").iterdir()
    assert Snapshot(checkpoints / "epoch-000004").state["step"] == 40
    run = train_run(store, RUN, Execution(results=str(tmp_path), quiet=True))
    assert run.meta["extra"]["processes"] == 1 and run.meta["extra"]["wire_bytes"] > 0
    assert_alike(rows_of(tmp_path), unhit)
    assert not (tmp_path / "checkpoints").exists()


def assert_alike(rows, others):
    """The same rows but for rounding."""
    for found, expected in zip(rows, others, strict=True):
        for name in expected:
            ours, theirs = (float(row[name] or np.nan) for row in (found, expected))
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("run", ["lsgd", "choco"])
def test_kill_9_amid_what_methods_remember(tmp_path, run):
    """Snapshots of leaders and workers that wait; estimates, and random draws that go on."""
    done = torchrun(2, tmp_path / "killed", kill="1:47", restarts=1, run=run)
    assert done.returncode == 0, done.stderr
    alone = RunStore(tmp_path / "alone")
    train_run(alone, RUNS[run], Execution(results=str(tmp_path / "alone"), quiet=True))
    assert_alike(rows_of(tmp_path / "killed"), rows_of(tmp_path / "alone"))
