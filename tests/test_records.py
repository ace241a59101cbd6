"""The store of runs: what counts as complete, what is never overwritten, and what a reader gets back."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldsgd import records
from aldsgd.errors import ConfigError
from aldsgd.listings import load_experiment, write_experiment
from aldsgd.records import COLUMNS, RunStore, key
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


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32(1), object(), {1, 2}])
def test_configuration_that_json_cannot_hold(value):
    with pytest.raises(ConfigError, match="'lr'"):
        key(CONFIG | {"lr": value})


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


def test_an_unfinished_repetition_keeps_the_complete_run(tmp_path):
    store = RunStore(tmp_path)
    record(store)
    before = snapshot(store.folder)
    crash(store)
    assert store.load(CONFIG) is not None
    after = snapshot(store.folder)
    assert {name: after[name] for name in before} == before
    assert all(name.endswith(".part") for name in set(after) - set(before))


def test_kill_between_the_renames(tmp_path, monkeypatch):
    store = RunStore(tmp_path)
    record(store)

    def killed(path, write):
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "replace_file", killed)
    with pytest.raises(KeyboardInterrupt):
        record(store, epochs=3)
    # the new CSV lies beside the old JSON: neither run may be believed
    assert store.load(CONFIG) is None


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
        "import sys, json\nfrom aldsgd.records import environment\n"
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
    found = records.environment()
    names = {*COLUMNS, *(field.name for field in dataclasses.fields(RunConfig)), *found["hardware"], *meta}
    names -= {"environment", "extra"}
    names |= {f"environment.{field}" for field in found}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def git(folder, *arguments):
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *settings, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_git_state(tmp_path):
    assert records._git_state(tmp_path) == (None, None)
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    for folder in ("results", "figures", "package"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert records._git_state(tmp_path) == (head, True)
    assert records._git_state(tmp_path / "package") == (None, None)
    (tmp_path / "results" / "old").write_text("2")
    (tmp_path / "figures" / "new").write_text("2")
    assert records._git_state(tmp_path) == (head, True)
    (tmp_path / "package" / "new").write_text("2")
    assert records._git_state(tmp_path) == (head, False)
    (tmp_path / "package" / "new").unlink()
    (tmp_path / "code.py").write_text("2")
    assert records._git_state(tmp_path) == (head, False)


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
    for text in (
        "",
        "[]",
        "{}",
        '{"preset": "a", "runs": [{}]}',
        '{"preset": "a", "runs": []}',
        '{"runs": 3}',
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match="damaged"):
            load_experiment(tmp_path, "quickstart")
