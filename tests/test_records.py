"""The store of runs: what counts as complete, what is never overwritten, and what a reader gets back."""

import dataclasses
import errno
import json
import math
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldsgd import environment, records
from aldsgd.errors import ConfigError
from aldsgd.listings import PRESETS, check_experiment, load_experiment, write_experiment
from aldsgd.records import COLUMNS, AlreadyComplete, RunStore, key
from baselines.registry import METHODS
from experiments.all import write_lists
from experiments.configuration import RunConfig

CONFIG = {"dataset": "digits", "method": "dpsgd", "lr": 0.4, "lr_drops": [[100, 0.1]], "augment": False,
          "graph": "paper:53.8", "budget": None, "seed": 0}  # fmt: skip
ENVIRONMENT = {"commit": "abc", "clean": True}


def epoch_rows(epoch, workers=2):
    rows = [
        {
            "epoch": epoch,
            "step": 7 * epoch,
            "worker": i,
            "train_loss": 1 / 3 + i,
            "test_accuracy": 0.1 * epoch,
        }
        for i in range(workers)
    ]
    network = {"epoch": epoch, "step": 7 * epoch, "train_loss": 0.5, "worst_accuracy": 0.1 * epoch,
               "consensus_distance": 1e-17 * math.pi, "logical_bytes": 2**40 * epoch, "rounds": 3 * epoch,
               "seconds_compute": 0.25 * epoch}  # fmt: skip
    return [*rows, network]


def record(store, config=CONFIG, epochs=2):
    with store.writer(config, ENVIRONMENT) as writer:
        for epoch in range(1, epochs + 1):
            writer.append(epoch_rows(epoch))
        return writer.finish({"note": "done"})


def snapshot(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*")}


def test_round_trip(tmp_path):
    store = RunStore(tmp_path / "results")
    assert store.load(CONFIG) is None and store.runs() == []
    record(store)
    run = store.load(CONFIG)
    assert run.config == CONFIG and run.key == key(CONFIG)
    assert run.meta["environment"] == ENVIRONMENT and run.meta["extra"] == {"note": "done"}
    assert run.csv == tmp_path / "results" / "runs" / f"digits-dpsgd-{key(CONFIG)}.csv"
    assert tuple(run.rows.columns) == COLUMNS and len(run.rows) == 6
    assert run.network["epoch"].tolist() == [1, 2] and run.network["rounds"].tolist() == [3, 6]
    assert run.network["logical_bytes"].tolist() == [2**40, 2**41]
    assert run.network["consensus_distance"].tolist() == [1e-17 * math.pi] * 2
    assert run.workers["worker"].tolist() == [0, 1, 0, 1]
    assert run.workers["train_loss"].tolist() == [1 / 3, 1 / 3 + 1] * 2
    assert "worker" not in run.network
    assert not {"rounds", "worst_accuracy", "seconds_compute"} & set(run.workers)
    assert [found.key for found in store.runs()] == [run.key]
    assert store.find(run.key).csv == run.csv and store.find("0" * 12) is None
    assert not list(store.folder.glob("*.part"))


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.floats(), st.floats(width=32).map(np.float32), st.integers(-(2**62), 2**62)))
def test_every_number_reads_back_as_itself(value):
    text = records._cell(value)
    back = int(text) if isinstance(value, int) else float(text)
    assert back == value or (math.isnan(back) and math.isnan(value))


def test_random_floats_read_back_exactly(tmp_path):
    numbers = np.random.default_rng(0).lognormal(0, 20, 300).tolist()
    store = RunStore(tmp_path)
    with store.writer(CONFIG, ENVIRONMENT) as writer:
        writer.append([{"epoch": i, "step": i, "train_loss": number} for i, number in enumerate(numbers)])
        run = writer.finish()
    assert run.network["train_loss"].tolist() == numbers


def test_cells_are_plain_numbers(tmp_path):
    with RunStore(tmp_path).writer(CONFIG, ENVIRONMENT) as writer:
        with pytest.raises(ValueError, match="acuracy"):
            writer.append([{"epoch": 1, "acuracy": 0.5}])
        with pytest.raises(TypeError, match="str"):
            writer.append([{"epoch": "one"}])


def test_key_ignores_order_and_nothing_else():
    assert key(dict(reversed(CONFIG.items()))) == key(CONFIG)
    assert key(CONFIG | {"lr_drops": ((100, 0.1),)}) == key(CONFIG)
    changes = [{"lr": np.nextafter(0.4, 1).item()}, {"lr": 0.41}, {"lr_drops": [[100, 0.2]]}, {"lr_drops": 1},
               {"augment": True}, {"augment": None}, {"budget": 0.5}, {"seed": 1}, {"seed": "0"},
               {"graph": "paper:53.8:B"}, {"method": "matcha"}, {"new": None}]  # fmt: skip
    keys = [key(CONFIG | change) for change in changes] + [key(CONFIG)]
    keys.append(key({field: value for field, value in CONFIG.items() if field != "budget"}))
    assert len(set(keys)) == len(keys)
    assert all(len(k) == 12 and set(k) <= set("0123456789abcdef") for k in keys)


def test_key_is_pinned():
    # A changed rule for keys would orphan every committed run, so it must not change by accident.
    assert key({"b": [1, 2.5], "a": None, "c": "x"}) == "724b980f4955"


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32(1), object(), {1, 2}, {"a": 1, 2: 3}])
def test_configuration_that_json_cannot_hold(value):
    with pytest.raises(ConfigError, match="'lr'"):
        key(CONFIG | {"lr": value})


def test_fields_need_names_of_one_kind():
    with pytest.raises(ConfigError, match="'keys'"):
        key({"a": 1, 2: 3})


def test_nameless_configuration(tmp_path):
    with pytest.raises(ConfigError, match="'dataset'"):
        RunStore(tmp_path).load({"method": "dpsgd"})


def test_file_names_are_safe(tmp_path):
    run = record(RunStore(tmp_path), CONFIG | {"dataset": "../my data/x-ray"})
    assert run.csv.parent == tmp_path / "runs" and " " not in run.csv.name
    assert RunStore(tmp_path).find(run.key) is not None


def test_identical_rows_give_identical_bytes(tmp_path):
    record(RunStore(tmp_path / "one"))
    record(RunStore(tmp_path / "two"), dict(reversed(CONFIG.items())))
    one, two = snapshot(tmp_path / "one" / "runs"), snapshot(tmp_path / "two" / "runs")
    assert {name for name in one} == {name for name in two} and len(one) == 2
    for name in one:
        if name.endswith(".csv"):
            assert one[name] == two[name] and b"\r" not in one[name]
        else:
            assert json.loads(one[name]) == json.loads(two[name])


def leave_unfinished(store):
    with store.writer(CONFIG, ENVIRONMENT) as writer:
        writer.append(epoch_rows(1))


def crash(store):
    with pytest.raises(RuntimeError):
        with store.writer(CONFIG, ENVIRONMENT) as writer:
            writer.append(epoch_rows(1))
            raise RuntimeError("power cut")


def damage(change):
    def leave(store):
        run = record(store)
        change(run.csv, run.csv.with_suffix(".json"))

    return leave


def edit_json(**fields):
    def change(_, path):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return damage(change)


BROKEN = {
    "no finish": leave_unfinished,
    "exception": crash,
    "between the two renames": damage(lambda csv, path: path.unlink()),
    "JSON without CSV": damage(lambda csv, path: csv.unlink()),
    "JSON cut in the middle": damage(lambda csv, path: path.write_bytes(path.read_bytes()[:200])),
    "empty JSON": damage(lambda csv, path: path.write_bytes(b"")),
    "JSON of another kind": damage(lambda csv, path: path.write_text("[1, 2]")),
    "JSON that is not text": damage(lambda csv, path: path.write_bytes(b"\xff\xfe\x00")),
    "CSV cut in the middle": damage(lambda csv, path: csv.write_bytes(csv.read_bytes()[:-40])),
    "CSV with a row more": damage(lambda csv, path: csv.write_bytes(csv.read_bytes() + b"3,21,,,\n")),
    "CSV with one digit changed": damage(
        lambda csv, path: csv.write_bytes(csv.read_bytes().replace(b"0.333333333", b"0.333333334"))
    ),
    "not complete": edit_json(complete=False),
    "no hash": edit_json(csv_sha256=None),
}


@pytest.mark.parametrize("leave", BROKEN.values(), ids=BROKEN.keys())
def test_unfinished_or_damaged_is_never_complete(tmp_path, leave):
    store = RunStore(tmp_path)
    leave(store)
    assert store.load(CONFIG) is None
    assert store.runs() == [] and store.find(key(CONFIG)) is None
    # and it can be trained again, over what is left
    record(store)
    assert store.load(CONFIG) is not None
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".csv", ".json"]


def test_rows_can_be_watched_before_the_run_ends(tmp_path):
    store = RunStore(tmp_path)
    with store.writer(CONFIG, ENVIRONMENT) as writer:
        writer.append(epoch_rows(1))
        lines = writer.part.read_text().splitlines()
        assert lines[0] == ",".join(COLUMNS) and len(lines) == 4
        assert store.load(CONFIG) is None
        assert [path.name for path in store.folder.iterdir()] == [writer.part.name]


def test_a_complete_run_is_never_recorded_again(tmp_path):
    store = RunStore(tmp_path)
    first = record(store)
    before = snapshot(store.folder)
    with pytest.raises(AlreadyComplete) as caught:
        record(store, epochs=3)
    assert caught.value.run == first and "\n" not in str(caught.value)
    assert snapshot(store.folder) == before


def test_a_run_that_another_process_finishes_between_look_up_and_lock(tmp_path, monkeypatch):
    store, lock = RunStore(tmp_path), records.RunWriter._lock

    def late(writer):
        monkeypatch.setattr(records.RunWriter, "_lock", lock)
        writer.part.unlink()  # what opening made; the other process has its own, and renames it
        record(store)
        writer._file = open(writer.part, "ab")
        writer._lock()

    monkeypatch.setattr(records.RunWriter, "_lock", late)
    with pytest.raises(AlreadyComplete):
        record(store, epochs=3)
    assert len(store.load(CONFIG).network) == 2
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".csv", ".json"]


@pytest.mark.parametrize("broken", ["replace_file", "os.replace"])
def test_kill_around_the_last_rename(tmp_path, monkeypatch, broken):
    store = RunStore(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if broken == "os.replace":
            patch.setattr(records, "replace_file", lambda path, write: write(path))
        patch.setattr(records if broken == "replace_file" else os, broken.removeprefix("os."), killed)
        with pytest.raises(KeyboardInterrupt):
            record(store)
    assert store.load(CONFIG) is None
    assert record(store).network["epoch"].tolist() == [1, 2]


class Full:
    """A file on a disk that is full from the ``room``-th write on."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def close(self):
        self.file.close()
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk_while_rows_are_written(tmp_path, monkeypatch, room):
    store = RunStore(tmp_path)
    kept = record(store, CONFIG | {"seed": 7})
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda path, mode, open=open: Full(open(path, mode), room))
        with pytest.raises(ConfigError, match="No space left") as caught:
            record(store)
    assert "\n" not in str(caught.value) and store.load(CONFIG) is None
    assert [run.key for run in store.runs()] == [kept.key]
    assert record(store).network["epoch"].tolist() == [1, 2]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_at_the_end(tmp_path, monkeypatch, call):
    store = RunStore(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(ConfigError, match="No space left"):
            record(store)
        patch.undo()
    assert store.load(CONFIG) is None and [path.suffix for path in store.folder.iterdir()] == [".part"]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".csv.part"])
def test_a_folder_in_place_of_a_file(tmp_path, suffix):
    store = RunStore(tmp_path)
    folder = store.folder / (store.stem(CONFIG) + suffix)
    folder.mkdir(parents=True)
    assert store.load(CONFIG) is None and store.runs() == []
    with pytest.raises(ConfigError, match="is a folder") as caught:
        record(store)
    assert str(folder) in str(caught.value) and list(store.folder.iterdir()) == [folder]


def test_what_was_read_is_kept_until_the_files_change(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SETTLED", -1)
    store = RunStore(tmp_path)
    record(store)
    run = store.load(CONFIG)
    assert RunStore(tmp_path).find(run.key) is run and RunStore(tmp_path).runs() == [run]
    text = run.csv.read_bytes()
    run.csv.write_bytes(text.replace(b"0.333333333", b"0.333333334"))
    assert store.load(CONFIG) is None and store.find(run.key) is None
    run.csv.write_bytes(text)
    assert store.load(CONFIG).network.equals(run.network)
    other = record(store, CONFIG | {"seed": 1})
    assert store.find(other.key) == other
    other.csv.with_suffix(".json").unlink()
    assert store.find(other.key) is None


def test_metrics_by_name(tmp_path):
    assert records.columns() == COLUMNS
    names = records.columns(("accuracy", "top5"))
    assert [name for name in names if "top5" not in name] == list(COLUMNS)
    assert [name for name in names if "top5" in name] == ["test_top5", "worst_top5", "mean_top5", "best_top5",
                                                          "averaged_top5"]  # fmt: skip
    with RunStore(tmp_path).writer(CONFIG, ENVIRONMENT, metrics=("r2", "rmse")) as writer:
        writer.append([{"epoch": 1, "step": 1, "worker": 0, "test_r2": 0.5, "test_rmse": 2.0},
                       {"epoch": 1, "step": 1, "worst_r2": 0.25, "averaged_rmse": 1.5}])  # fmt: skip
        with pytest.raises(ValueError, match="accuracy"):
            writer.append([{"epoch": 1, "mean_accuracy": 0.5}])
        run = writer.finish()
    assert run.metrics == ("r2", "rmse") and record(RunStore(tmp_path / "old")).metrics == ("accuracy",)
    assert run.workers[["test_r2", "test_rmse"]].to_numpy().tolist() == [[0.5, 2.0]]
    assert run.final["worst_r2"] == 0.25 and run.network["averaged_rmse"].item() == 1.5


@pytest.mark.parametrize("metrics", [(), ("r2", "r2"), ("loss",), ("top 5",), ("",), (3.5,)])
def test_metrics_that_cannot_be_columns(tmp_path, metrics):
    with pytest.raises(ConfigError, match="metric"):
        RunStore(tmp_path).writer(CONFIG, ENVIRONMENT, metrics)


def test_a_centre_is_no_worker(tmp_path):
    config = CONFIG | {"workers": 2}
    with RunStore(tmp_path).writer(config, ENVIRONMENT) as writer:
        centre = {"epoch": 1, "step": 7, "worker": 2, "test_accuracy": 0.9}
        writer.append([*epoch_rows(1), centre])
        run = writer.finish()
    assert run.workers["worker"].tolist() == [0, 1] and run.centres["worker"].tolist() == [2]
    assert run.centres["test_accuracy"].item() == 0.9 and math.isnan(run.centres["train_loss"].item())
    assert list(run.centres.columns) == list(run.workers.columns) and len(run.network) == 1


def test_another_configuration_is_never_overwritten(tmp_path):
    store = RunStore(tmp_path)
    path = record(store).csv.with_suffix(".json")
    stranger = json.loads(path.read_text())
    stranger["config"]["lr"] = 0.8
    path.write_text(json.dumps(stranger))
    before = snapshot(store.folder)
    with pytest.raises(ConfigError, match="another configuration"):
        store.load(CONFIG)
    with pytest.raises(ConfigError, match="another configuration"):
        record(store)
    with pytest.raises(ConfigError, match="another configuration"):
        store.runs()
    assert snapshot(store.folder) == before


def test_folder_that_cannot_be_written(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    for store in (RunStore(blocker), RunStore(blocker / "below")):
        with pytest.raises(ConfigError, match="cannot be written") as caught:
            with store.writer(CONFIG, ENVIRONMENT):
                pytest.fail("training would have started")
        assert "\n" not in str(caught.value)
        assert store.load(CONFIG) is None and store.runs() == []
    with pytest.raises(ConfigError, match="cannot be written"):
        write_experiment(blocker, "quickstart", "cpu", [])
    assert blocker.read_text() == "in the way"


def test_check_writable_leaves_nothing(tmp_path):
    RunStore(tmp_path).check_writable()
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.skipif(records.fcntl is None, reason="no file locks on this system")
def test_two_processes_never_record_the_same_run(tmp_path):
    other = (
        "import sys\nfrom aldsgd.records import RunStore\nfrom aldsgd.errors import ConfigError\n"
        f"try:\n    RunStore({str(tmp_path)!r}).writer({CONFIG!r}, {{}}).__enter__()\n"
        "except ConfigError as error:\n    sys.exit(str(error))\n"
    )
    store = RunStore(tmp_path)
    with store.writer(CONFIG, ENVIRONMENT) as writer:
        writer.append(epoch_rows(1))
        second = python(other)
        assert second.returncode == 1 and "another process" in second.stderr
        assert len(writer.part.read_text().splitlines()) == 4
        writer.finish()
    assert len(store.load(CONFIG).rows) == 3


def python(code):
    root = Path(records.__file__).resolve().parents[1]
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)


def test_environment_needs_no_torch():
    code = (
        "import sys, json\nfrom aldsgd.environment import environment\n"
        "print(json.dumps(environment('GPU X', 3)))\nsys.exit('torch' in sys.modules)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["hardware"]["device"] == "GPU X" and found["hardware"]["threads"] == 3
    assert found["hardware"]["cores"] == os.cpu_count()
    assert set(found) == {"versions", "hardware", "commit", "clean"}


def test_readme_explains_every_column_and_field(tmp_path):
    text = (Path(records.__file__).resolve().parents[1] / "results" / "README.md").read_text(encoding="utf-8")
    meta = json.loads(record(RunStore(tmp_path)).csv.with_suffix(".json").read_text())
    found = environment.environment()
    names = {*COLUMNS, *found["hardware"], *meta}
    names |= {field.name for field in dataclasses.fields(RunConfig) if "help" in field.metadata}
    names |= {option for method in METHODS.values() for option in method.defaults}
    names -= {"environment", "extra"}
    names |= {f"environment.{field}" for field in found}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def git(folder, *arguments):
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *settings, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_git_state(tmp_path):
    assert environment._git_state(tmp_path) == (None, None)
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    for folder in ("results", "figures", "package"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert environment._git_state(tmp_path) == (head, True)
    assert environment._git_state(tmp_path / "package") == (None, None)
    (tmp_path / "results" / "old").write_text("2")
    (tmp_path / "figures" / "new").write_text("2")
    assert environment._git_state(tmp_path) == (head, True)
    (tmp_path / "package" / "new").write_text("2")
    assert environment._git_state(tmp_path) == (head, False)
    (tmp_path / "package" / "new").unlink()
    (tmp_path / "code.py").write_text("2")
    assert environment._git_state(tmp_path) == (head, False)


def test_extra_and_environment_stay_valid_json(tmp_path):
    store = RunStore(tmp_path)
    with store.writer(CONFIG, {"device": Path("x")}) as writer:
        writer.append(epoch_rows(1))
        writer.finish({"count": np.int64(3), "rho": np.float64(0.5), "loss": math.inf, "list": (1, math.nan)})
    text = store.load(CONFIG).csv.with_suffix(".json").read_text()
    meta = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert meta["extra"] == {"count": 3, "rho": 0.5, "loss": "inf", "list": [1, "nan"]}


def test_experiment_list(tmp_path):
    store = RunStore(tmp_path)
    second = CONFIG | {"seed": 1}
    record(store), record(store, second)
    entries = [("D-PSGD", 0, CONFIG), ("D-PSGD", np.int64(1), second)]
    path = write_experiment(tmp_path, "quickstart", "cpu", entries)
    assert json.loads(path.read_text()) == {
        "experiment": "quickstart",
        "preset": "cpu",
        "runs": [
            {"label": "D-PSGD", "seed": 0, "key": key(CONFIG)},
            {"label": "D-PSGD", "seed": 1, "key": key(second)},
        ],
    }
    assert [(label, seed, run.config) for label, seed, run in load_experiment(tmp_path, "quickstart")] == [
        ("D-PSGD", 0, CONFIG),
        ("D-PSGD", 1, second),
    ]
    assert [entry.name for entry in path.parent.iterdir()] == ["quickstart.json"]


def test_experiment_list_errors(tmp_path):
    with pytest.raises(ConfigError, match="twice"):
        write_experiment(tmp_path, "quickstart", "cpu", [("D-PSGD", 0, CONFIG), ("D-PSGD", 0, CONFIG | {"lr": 1})])
    with pytest.raises(ConfigError, match="python -m experiments.quickstart"):
        load_experiment(tmp_path, "quickstart")
    record(RunStore(tmp_path))
    entries = [("D-PSGD", 0, CONFIG), ("MATCHA", 3, CONFIG | {"method": "matcha"})]
    path = write_experiment(tmp_path, "quickstart", "smoke", entries)
    with pytest.raises(ConfigError) as caught:
        load_experiment(tmp_path, "quickstart")
    message = str(caught.value)
    assert "1 of 2" in message and "MATCHA, seed 3" in message and "\n" not in message
    assert message.endswith("python -m experiments.quickstart --preset smoke")
    good = {"label": "a", "seed": 0, "key": "0" * 12}
    damaged = ["", "[]", "{}", '{"runs": 3}', "[" * 100_000]
    for runs in ([{}], [], [3], [good, good], [good | {"seed": "0"}], [good | {"key": None}], [good | {"label": 1}]):
        damaged.append(json.dumps({"preset": "a", "runs": runs}))
    for text in damaged:
        path.write_text(text)
        with pytest.raises(ConfigError, match="damaged"):
            load_experiment(tmp_path, "quickstart")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="damaged"):
        load_experiment(tmp_path, "quickstart")


def test_some_of_the_runs_of_an_experiment(tmp_path):
    record(RunStore(tmp_path))
    entries = [("D-PSGD", 0, CONFIG), ("MATCHA", 3, CONFIG | {"method": "matcha"})]
    write_experiment(tmp_path, "quickstart", "cpu", entries)
    assert [label for label, _, _ in load_experiment(tmp_path, "quickstart", partial=True)] == ["D-PSGD"]
    write_experiment(tmp_path, "quickstart", "cpu", entries[1:])
    with pytest.raises(ConfigError, match="1 of 1 runs"):
        load_experiment(tmp_path, "quickstart", partial=True)


@pytest.mark.parametrize(("smaller", "listed"), [*combinations(PRESETS, 2)])
def test_a_list_never_replaces_one_of_a_larger_preset(tmp_path, capsys, smaller, listed):
    entries = [("D-PSGD", 0, CONFIG)]
    path = write_experiment(tmp_path, "quickstart", smaller, entries)
    write_experiment(tmp_path, "quickstart", listed, entries)
    before = path.read_bytes()
    for call in (check_experiment, lambda *arguments: write_experiment(*arguments, entries)):
        with pytest.raises(ConfigError, match=f"preset {listed}: give a {smaller} run another folder"):
            call(tmp_path, "quickstart", smaller)
    write_lists({"quickstart": [("D-PSGD", 0, RunConfig())]}, RunStore(tmp_path), smaller)
    assert capsys.readouterr().out == f"quickstart: still lists preset {listed}\n" and path.read_bytes() == before
    path.write_text("half of a li")
    write_experiment(tmp_path, "quickstart", smaller, entries)


def test_a_list_that_cannot_be_written_is_known_before(tmp_path):
    (tmp_path / "experiments" / "quickstart.json").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is a folder"):
        check_experiment(tmp_path, "quickstart", "cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        check_experiment(tmp_path / "file", "quickstart", "cpu")
