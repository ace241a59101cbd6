"""Checkpoints: which one counts, what they hold, and what of them is refused or passed over."""

import errno
import json
import math
import os
from functools import cache
from pathlib import Path

import pytest
import torch

from aldsgd.checkpoint import Checkpoints
from aldsgd.datasets import load
from aldsgd.errors import ConfigError
from aldsgd.identity import agreed
from aldsgd.records import CLOCK_COLUMNS
from aldsgd.training import Trainer
from baselines import dpsgd
from experiments.configuration import RunConfig
from tests.crashing import Crash, crash


def trainer(**changes):
    config = RunConfig(model="resnet_small", train_images=256, test_images=100, bn_images=64, lr=0.1).but(**changes)
    data = load(config.dataset).subset(config.train_images, config.test_images)
    return Trainer(config.algorithm(2), config.build(data), data, config.settings())


def without_clocks(rows):
    return [{name: value for name, value in row.items() if name not in CLOCK_COLUMNS} for row in rows]


#: What a run remembers besides models and momentum: rows, numbers, so many of them and one for each tensor, a centre.
REMEMBERING = {
    "lsgd_released": dict(groups=2, tau=6, tau_local=3, slow_workers=3),
    "eamsgd": dict(tau=3),
    "lgrawa": dict(tau=5, norms="batch"),
}


@pytest.mark.parametrize(
    "changes",
    [dict(eval_every=1), dict(eval_every=3)]
    + [dict(model="mlp", method=name, **options) for name, options in REMEMBERING.items()],
)
def test_a_run_that_crashed_goes_on_bit_for_bit(tmp_path, changes):
    changes = dict(epochs=5, momentum=0.9) | changes
    unhit = trainer(**changes)
    expected = unhit.run()
    crashed, kept = trainer(**changes), tmp_path / "run"
    crash(crashed, kept, 4, 2)
    resumed, told = trainer(**changes), []
    # What a crash leaves of the workers must not matter.
    for name in ("x", *resumed.algorithm.state):
        getattr(resumed.state, name).fill_(torch.nan)
    trained = []
    train = resumed.train_epoch
    resumed.train_epoch = lambda epoch, *rest: trained.append(epoch) or train(epoch, *rest)
    result = resumed.run(on_record=told.extend, checkpoints=kept, checkpoint_every=2)
    assert trained == [4]
    assert without_clocks(result.rows) == without_clocks(told) == without_clocks(expected.rows)
    for name in ("x", *resumed.algorithm.state):
        assert torch.equal(getattr(resumed.state, name), getattr(unhit.state, name)), name
    for ours, theirs in zip(resumed.workers.modules, unhit.workers.modules, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))
    assert result.rows[-1]["seconds_compute"] > crashed.seconds_compute


@pytest.mark.parametrize(
    "method",
    [
        dict(method="mt"), dict(method="edm"), dict(method="d2"), dict(method="gt", graphs=3), dict(method="decentlam"),
        dict(method="dsgd_ac", start_epoch=1), dict(method="slowmo", inner="aldsgd", tau=7),
        dict(method="noloco", tau=3), dict(method="sgp"), dict(method="choco", compressor="randomk"),
        dict(method="aldsgd", judge="gradient"),
        dict(method="local_sgd", inner="aldsgd", core="qg", tau=3, late=0.7, merge=True),
    ],
    ids=lambda changes: changes["method"],
)  # fmt: skip
def test_what_a_method_remembers_is_in_its_checkpoint(tmp_path, method):
    changes = dict(model="logistic", epochs=4, lr=0.05, schedule="cosine", momentum=0.5, eval_every=4, **method)
    unhit = trainer(**changes)
    unhit.run()
    crashed = trainer(**changes)
    crash(crashed, tmp_path / "run", 3)
    resumed = trainer(**changes)
    for name in ("x", *resumed.algorithm.state):  # what a crash leaves must not matter
        getattr(resumed.state, name).fill_(torch.nan)
    resumed.run(checkpoints=tmp_path / "run", checkpoint_every=1)
    for name in ("x", *resumed.algorithm.state):
        assert torch.equal(getattr(resumed.state, name), getattr(unhit.state, name)), name


def some_tensors(value):
    return [(i, {"parameters": torch.full((3,), float(value)), "buffer": torch.tensor(i)}) for i in range(2)]


def test_the_newest_whole_checkpoint_counts_and_old_ones_go(tmp_path):
    kept = Checkpoints(tmp_path / "run", "mine")
    assert kept.newest() is None
    for epoch in (2, 4, 6):
        kept.save(epoch, {"epoch": epoch, "rows": [{"worker": None, "train_loss": 0.1 + 0.2}]}, some_tensors(epoch))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["epoch-000004", "epoch-000006"]
    newest = kept.newest()
    assert newest.state == {"epoch": 6, "rows": [{"worker": None, "train_loss": 0.1 + 0.2}]}
    assert list(newest.worker(1)) == ["parameters", "buffer"]
    assert newest.worker(1)["parameters"].tolist() == [6, 6, 6] and newest.worker(1)["buffer"].item() == 1
    file = newest.path / "worker-00001.pt"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="epoch-000006 is passed over: worker-00001.pt was changed or damaged"):
        assert kept.newest().state["epoch"] == 4
    for damage in ("", "{}", '{"format": 2}', "[]", "null", "[" * 10**5, "\udcff"):
        (newest.path / "state.json").write_text(damage, errors="surrogateescape")
        with pytest.warns(UserWarning, match="epoch-000006 is passed over"):
            assert kept.newest().state["epoch"] == 4
    (newest.path / "state.json").write_text('{"format": 1, "files": {}, "state": {"epoch": 6}}')
    with pytest.warns(UserWarning, match="passed over: it has format 1, this version writes 2"):
        assert kept.newest().state["epoch"] == 4
    kept.save(6, {"epoch": 6}, some_tensors(7))
    assert kept.newest().worker(0)["parameters"].tolist() == [7, 7, 7]
    kept.remove()
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_cut_off_in_the_middle_does_not_count(tmp_path):
    kept = Checkpoints(tmp_path / "run", "mine")
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
    kept = Checkpoints(tmp_path / "run", "mine")
    kept.save(2, {"epoch": 2}, some_tensors(2))

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    snapshot = kept.newest()
    torch.save([Evil()], snapshot.path / "worker-00000.pt")
    with pytest.raises(ConfigError, match="worker-00000.pt was changed"):
        snapshot.worker(0)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_holds_one_worker_per_file_and_not_the_tensor_behind_it(tmp_path):
    kept, everyone = Checkpoints(tmp_path / "run", "mine"), torch.zeros(8, 10_000)
    kept.save(1, {"epoch": 1}, ((i, {"row": everyone[i]}) for i in range(8)))
    assert (kept.newest().path / "worker-00003.pt").stat().st_size < 50_000


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="checkpoint .* cannot be written"):
        Checkpoints(tmp_path / "file" / "run", "mine").save(1, {}, some_tensors(1))


# Whose checkpoint it is


OWN = {"method": "dpsgd", "lr": 0.1, "workers": 8, "lr_drops": ((5, 0.1),), "start_scaled": False}


@pytest.mark.parametrize(
    "other, said",
    [
        ({**OWN, "lr": 0.2}, "(lr 0.1 there, 0.2 here)"),
        ({**OWN, "method": "matcha", "workers": 16}, "(method 'dpsgd' there, 'matcha' here; workers 8 there, 16 here)"),
        ({**OWN, "lr_drops": ()}, "(lr_drops [[5, 0.1]] there, [] here)"),
        ({**OWN, "budget": 0.5}, "(budget 'nothing' there, 0.5 here)"),
        ({name: None for name in OWN}, "8 there, None here; lr_drops [[5, 0.1]] there, None here; and 1 more)"),
        ("another", "'another' here)"),
        ({}, "(method 'dpsgd' there, 'nothing' here;"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path, other, said):
    Checkpoints(tmp_path, OWN).save(2, {"epoch": 2}, some_tensors(2))
    with pytest.raises(ConfigError, match="holds a checkpoint of another run") as caught:
        Checkpoints(tmp_path, other).newest()
    assert said in str(caught.value) and "\n" not in str(caught.value)
    # Lists and tuples, dictionaries in any order are the same run.
    same = dict(reversed([*OWN.items()])) | {"lr_drops": [[5, 0.1]]}
    assert Checkpoints(tmp_path, same).newest().state == {"epoch": 2}


OTHER_RUNS = {
    (("lr_drops", ((1, 0.5),)),): "lr_drops [] there, [[1, 0.5]] here",
    (("momentum", 0.9),): "momentum 0.0 there, 0.9 here",
    (("optimizer", "adam"),): "optimizer 'sgd' there, 'adam' here",
    (("epochs", 5),): "epochs 3 there, 5 here",
    (("method", "dpsgd"),): "method 'ALDSGD' there, 'DPSGD' here",
    (("c1", 0.5),): "exchanges",
    (("graph", "paper:100"),): "exchanges",
    (("graphs", 2),): "exchanges",
    (("workers", 4), ("graph", "ring")): "workers 8 there, 4 here",
    (("split", "unequal"),): "shards",
    (("train_images", 255),): "data",
    (("test_images", 99),): "data",
    (("seed", 1),): "seed 0 there, 1 here",
    (("latency", 1.0),): "link",
}


def test_a_trainer_does_not_go_on_from_another_run(tmp_path):
    stopped = trainer(epochs=3)
    stopped.save(Checkpoints(tmp_path / "run", stopped.identity()), 2, [])
    for changes, said in OTHER_RUNS.items():
        with pytest.raises(ConfigError, match="holds a checkpoint of another run") as caught:
            trainer(**{"epochs": 3, **dict(changes)}).run(checkpoints=tmp_path / "run")
        assert said in str(caught.value) and "\n" not in str(caught.value), changes


def test_a_run_goes_on_on_a_processor_that_rounds_otherwise(monkeypatch):
    """Eigenvalues, and so weights, end in other digits where linear algebra is compiled for other processors."""
    own, weight = trainer().identity(), dpsgd.equal_weight_alpha
    monkeypatch.setattr(dpsgd, "equal_weight_alpha", lambda *known: math.nextafter(weight(*known), 1))
    assert trainer().identity() == own
    monkeypatch.setattr(dpsgd, "equal_weight_alpha", lambda *known: weight(*known) + 1e-8)
    assert trainer().identity()["exchanges"] != own["exchanges"]
    assert agreed("[0.30000000000000004, -1e-17, 3, 1e-05, 'base:4']") == "[0.3, 0.0, 3, 1e-05, 'base:4']"


# What cannot be a state of the run, although its sums match


@cache
def two_epochs():
    """A run of 4 epochs after the second, and its rows; nobody trains it on."""
    run = trainer(epochs=4)
    return run, [row for epoch in (0, 1) for row in run.record(epoch + 1, run.train_epoch(epoch))]


def started(folder, **changes):
    """A run of 4 epochs that was stopped after the second."""
    run, rows = two_epochs()
    kept, save = Checkpoints(folder, run.identity()), Checkpoints.save

    def changed(self, epoch, state, workers):
        state, workers = json.loads(json.dumps(state)), list(workers)
        save(self, epoch, changes.get("state", lambda s: s)(state), changes.get("workers", lambda w: w)(workers))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", changed)
        run.save(kept, 2, rows)
    return folder


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def first_worker(change):
    return lambda workers: [(workers[0][0], change(workers[0][1])), *workers[1:]]


def rows(change):
    return lambda state: {**state, "rows": change(state["rows"])}


STATES = {
    "epoch beyond": lambda state: {**state, "epoch": 99},
    "epoch at the end": lambda state: {**state, "epoch": 4},
    "epoch zero": lambda state: {**state, "epoch": 0},
    "epoch true": lambda state: {**state, "epoch": True},
    "epoch text": lambda state: {**state, "epoch": "2"},
    "epoch huge": lambda state: {**state, "epoch": 10**300},
    "earlier epoch": lambda state: {**state, "epoch": 1},
    "rows empty": rows(lambda found: []),
    "rows null": rows(lambda found: None),
    "rows numbers": rows(lambda found: [1, 2]),
    "one row less": rows(lambda found: found[:-1]),
    "one row twice": rows(lambda found: [*found, found[-1]]),
    "rows in another order": rows(lambda found: found[::-1]),
    "text in a row": rows(lambda found: [{**found[0], "train_loss": "low"}, *found[1:]]),
    "list in a row": rows(lambda found: [{**found[0], "train_loss": [1]}, *found[1:]]),
    "a meter as text": lambda state: {**state, "meters": {**state["meters"], "bytes": "1"}},
    "a meter missing": lambda state: {**state, "meters": without("bytes")(state["meters"])},
    "a meter below zero": lambda state: {**state, "meters": {**state["meters"], "bytes": -1}},
    "a meter without end": lambda state: {**state, "meters": {**state["meters"], "modelled": float("inf")}},
    "meters null": lambda state: {**state, "meters": None},
    "one clock": lambda state: {**state, "seconds": [1.0]},
    "a clock as text": lambda state: {**state, "seconds": ["1", 1.0, 1.0]},
    "a time missing": lambda state: {**state, "seconds": state["seconds"][:2]},
    **{f"no {name}": without(name) for name in ("epoch", "rows", "meters", "seconds", "wire_bytes", "diverged")},
    "a list": lambda state: [],
    "null": lambda state: None,
}
WORKERS = {
    "fewer workers": lambda workers: workers[:-1],
    "more workers": lambda workers: [*workers, (8, workers[0][1])],
    "fewer tensors": first_worker(lambda own: {"x": own["x"]}),
    "more tensors": first_worker(lambda own: {**own, "momentum": torch.zeros(3)}),
    "another shape": first_worker(lambda own: {**own, "x": own["x"][:-1]}),
    "another dtype": first_worker(lambda own: {**own, "x": own["x"].double()}),
    "another name": first_worker(lambda own: {f"the {name}": tensor for name, tensor in own.items()}),
}


def test_what_was_stopped_goes_on_to_the_rows_of_a_whole_run(tmp_path, whole_rows):
    started(tmp_path / "run")
    assert without_clocks(trainer(epochs=4).run(checkpoints=tmp_path / "run").rows) == whole_rows


@pytest.fixture(scope="module")
def whole_rows():
    return without_clocks(trainer(epochs=4).run().rows)


@pytest.mark.parametrize("change", [("state", name) for name in STATES] + [("workers", name) for name in WORKERS])
def test_a_state_that_this_run_cannot_have_is_passed_over(tmp_path, change):
    kind, name = change
    kept = started(tmp_path / "run", **{kind: {"state": STATES, "workers": WORKERS}[kind][name]})
    run = trainer(epochs=4)
    before = run.workers.parameters.clone()
    with pytest.warns(UserWarning, match="epoch-000002 is passed over: "):
        assert run.resume(Checkpoints(kept, run.identity())) == (0, [])
    assert torch.equal(run.workers.parameters, before)


def test_a_state_file_that_was_edited_is_passed_over(tmp_path, whole_rows):
    started(tmp_path / "run")
    path = tmp_path / "run" / "epoch-000002" / "state.json"
    record = json.loads(path.read_text())
    record["state"]["rows"][3]["train_loss"] += 1
    path.write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="state.json was changed or damaged"):
        assert without_clocks(trainer(epochs=4).run(checkpoints=tmp_path / "run").rows) == whole_rows


# Disks and folders


def test_a_disk_that_fills_up_leaves_the_checkpoints_before(tmp_path, monkeypatch):
    kept, write, room = Checkpoints(tmp_path / "run", "mine"), Path.write_bytes, [3]
    kept.save(2, {"epoch": 2}, some_tensors(2))

    def full(self, content):
        room[0] -= 1
        if room[0] < 0:
            write(self, bytes(content)[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    kept.save(4, {"epoch": 4}, some_tensors(4))
    with pytest.raises(ConfigError, match=r"epoch-000006 cannot be written \(No space left on device\); make room"):
        kept.save(6, {"epoch": 6}, some_tensors(6))
    assert sorted(os.listdir(tmp_path / "run")) == ["epoch-000002", "epoch-000004"]
    assert kept.newest().state == {"epoch": 4}


def test_folders_in_place_of_files_and_files_in_place_of_folders(tmp_path):
    kept = Checkpoints(tmp_path / "run", "mine")
    for epoch in (2, 4):
        kept.save(epoch, {"epoch": epoch}, some_tensors(epoch))
    for name in ("worker-00000.pt", "state.json"):
        path = tmp_path / "run" / "epoch-000004" / name
        path.unlink()
        path.mkdir()
        with pytest.warns(UserWarning, match="epoch-000004 is passed over: .*Is a directory"):
            assert kept.newest().state["epoch"] == 2
    (tmp_path / "run" / "epoch-000006").write_text("")
    (tmp_path / "run" / ".partial").write_text("")
    with (
        pytest.warns(UserWarning, match="passed over: .*Not a directory"),
        pytest.warns(match="passed over: .*Is a dir"),
    ):
        assert kept.newest().state["epoch"] == 2
    kept.save(6, {"epoch": 6}, some_tensors(6))
    assert kept.newest().state["epoch"] == 6
    (tmp_path / "run" / "notes.txt").write_text("the user's own")
    kept.remove()
    assert os.listdir(tmp_path / "run") == ["notes.txt"]


def test_a_file_in_place_of_the_folder_is_noticed_before_training(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match=r"checkpoints in .*run cannot be read \(Not a directory\)"):
        trainer(epochs=2).run(checkpoints=tmp_path / "run")
    assert (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\)"):
        Checkpoints(tmp_path, "mine").newest()
