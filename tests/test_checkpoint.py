"""Runs that are cut off and go on: the same numbers, whatever was lost and on however many processes."""

import csv
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from aldsgd import models
from aldsgd.checkpoint import Checkpoints, Snapshot
from aldsgd.datasets import load
from aldsgd.errors import ConfigError
from aldsgd.records import CLOCK_COLUMNS, RunStore
from aldsgd.training import Trainer
from experiments.common import parser, train_into
from experiments.configuration import RunConfig
from tests.killed_run import RUN

ROOT = Path(__file__).resolve().parents[1]


class Crash(Exception):
    pass


def trainer(**changes):
    config = RunConfig(model="resnet_small", train_images=256, test_images=100, bn_images=64, lr=0.1, **changes)
    data = load(config.dataset).subset(config.train_images, config.test_images)
    build = partial(models.build, config.model, data.classes, data.shape)
    return Trainer(config.algorithm(2), build, data, config.settings())


def without_clocks(rows):
    return [{name: value for name, value in row.items() if name not in CLOCK_COLUMNS} for row in rows]


@pytest.mark.parametrize("eval_every", [1, 3])
def test_a_run_that_crashed_goes_on_bit_for_bit(tmp_path, eval_every):
    unhit = trainer(epochs=5, eval_every=eval_every)
    expected = unhit.run()
    crashed, kept = trainer(epochs=5, eval_every=eval_every), Checkpoints(tmp_path / "run")

    def crash(epoch, *rest, train=crashed.train_epoch):
        if epoch == 4:
            raise Crash
        return train(epoch, *rest)

    crashed.train_epoch = crash
    with pytest.raises(Crash):
        crashed.run(checkpoints=kept, checkpoint_every=2)
    resumed, told = trainer(epochs=5, eval_every=eval_every), []
    # What a crash leaves of the workers must not matter.
    resumed.workers.parameters.fill_(torch.nan)
    trained = []
    train = resumed.train_epoch
    resumed.train_epoch = lambda epoch, *rest: trained.append(epoch) or train(epoch, *rest)
    result = resumed.run(on_record=told.extend, checkpoints=kept, checkpoint_every=2)
    assert trained == [4]
    assert without_clocks(result.rows) == without_clocks(told) == without_clocks(expected.rows)
    assert torch.equal(resumed.workers.parameters, unhit.workers.parameters)
    for ours, theirs in zip(resumed.workers.modules, unhit.workers.modules, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))
    assert result.rows[-1]["seconds_compute"] > crashed.seconds_compute


def some_tensors(value):
    return [(i, [torch.full((3,), float(value)), torch.tensor(i)]) for i in range(2)]


def test_the_newest_whole_checkpoint_counts_and_old_ones_go(tmp_path):
    kept = Checkpoints(tmp_path / "run")
    assert kept.newest() is None
    for epoch in (2, 4, 6):
        kept.save(epoch, {"epoch": epoch, "rows": [{"worker": None, "train_loss": 0.1 + 0.2}]}, some_tensors(epoch))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["epoch-000004", "epoch-000006"]
    newest = kept.newest()
    assert newest.state == {"epoch": 6, "rows": [{"worker": None, "train_loss": 0.1 + 0.2}]}
    assert newest.worker(1)[0].tolist() == [6, 6, 6] and newest.worker(1)[1].item() == 1
    file = newest.path / "worker-00001.pt"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="epoch-000006 is damaged"):
        assert kept.newest().state["epoch"] == 4
    for damage in ("", "{}", '{"format": 1}', "[]"):
        (newest.path / "state.json").write_text(damage)
        with pytest.warns(UserWarning, match="epoch-000006 is damaged"):
            assert kept.newest().state["epoch"] == 4
    kept.save(6, {"epoch": 6}, some_tensors(7))
    assert kept.newest().worker(0)[0].tolist() == [7, 7, 7]
    kept.remove()
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_cut_off_in_the_middle_does_not_count(tmp_path):
    kept = Checkpoints(tmp_path / "run")
    kept.save(2, {"epoch": 2}, some_tensors(2))

    def broken():
        yield from some_tensors(4)[:1]
        raise Crash

    with pytest.raises(Crash):
        kept.save(4, {"epoch": 4}, broken())
    assert kept.newest().state["epoch"] == 2
    kept.save(4, {"epoch": 4}, some_tensors(4))
    assert kept.newest().state["epoch"] == 4


def test_loading_a_checkpoint_executes_no_code(tmp_path):
    kept = Checkpoints(tmp_path / "run")
    kept.save(2, {"epoch": 2}, some_tensors(2))

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    snapshot = kept.newest()
    torch.save([Evil()], snapshot.path / "worker-00000.pt")
    with pytest.raises(pickle.UnpicklingError):
        snapshot.worker(0)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_holds_one_worker_per_file_and_not_the_tensor_behind_it(tmp_path):
    kept, everyone = Checkpoints(tmp_path / "run"), torch.zeros(8, 10_000)
    kept.save(1, {"epoch": 1}, ((i, [everyone[i]]) for i in range(8)))
    assert (kept.newest().path / "worker-00003.pt").stat().st_size < 50_000


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="checkpoint .* cannot be written"):
        Checkpoints(tmp_path / "file" / "run").save(1, {}, some_tensors(1))


def rows_of(results):
    """The rows of the one run in a results folder, without clocks, as text."""
    (path,) = (results / "runs").glob("*.csv")
    with open(path, newline="") as file:
        return without_clocks(csv.DictReader(file))


def torchrun(size, results, kill="-1:-1", restarts=0):
    """tests/killed_run.py under torchrun, a checkpoint every two epochs."""
    options = ["--standalone", "--nproc_per_node", str(size), "--max-restarts", str(restarts)]
    script = ["-m", "tests.killed_run", "--results", str(results), "--checkpoint-every", "2", "--timeout", "100"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ALDSGD_KILL": kill}
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
    options = parser("", seeds=(0,)).parse_args(["--results", str(tmp_path), "--quiet"])
    run = train_into(store, RUN, options)
    assert run.meta["extra"]["processes"] == 1 and run.meta["extra"]["wire_bytes"] > 0
    for found, expected in zip(rows_of(tmp_path), unhit, strict=True):
        for name in expected:
            ours, theirs = (float(row[name] or np.nan) for row in (found, expected))
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=name)
    assert not (tmp_path / "checkpoints").exists()
