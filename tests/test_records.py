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

from aldsgd import environment, identity, records
from aldsgd.errors import ConfigError
from aldsgd.identity import exchanges_hash
from aldsgd.listings import write_experiment
from aldsgd.records import COLUMNS, RunStore, key
from baselines import dpsgd
from baselines.registry import METHODS
from experiments.configuration import RunConfig, from_record

ROOT = Path(__file__).resolve().parents[1]
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
    assert run.final_workers[["epoch", "worker"]].to_numpy().tolist() == [[2, 0], [2, 1]]
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


def test_rows_can_be_watched_before_the_run_ends(tmp_path):
    store = RunStore(tmp_path)
    with store.writer(CONFIG, ENVIRONMENT) as writer:
        writer.append(epoch_rows(1))
        lines = writer.part.read_text().splitlines()
        assert lines[0] == ",".join(COLUMNS) and len(lines) == 4
        assert store.load(CONFIG) is None
        assert [path.name for path in store.folder.iterdir()] == [writer.part.name]


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


#: Commits at which the text of a step named what it judges by; a few recorded runs are of theirs.
JUDGED = ("bfd2632", "3b9fa70")


def test_the_exchanges_of_recorded_runs_have_the_hash_that_was_recorded(monkeypatch):
    """A step that gains a field must not make other runs of those that are recorded, nor of their checkpoints.

    Earlier hashes are of all digits of the weights, the last of which hang on the processor; these are recorded.
    """

    def hashes(run):
        steps = run.meta["extra"]["steps_per_epoch"]
        yield exchanges_hash(from_record(run.config).algorithm(steps), steps)
        recorded = iter(run.meta["extra"]["mixing"].get("alpha", ()))
        with monkeypatch.context() as patch:
            patch.setattr(identity, "agreed", str)
            patch.setattr(dpsgd, "equal_weight_alpha", lambda *_: next(recorded))
            yield exchanges_hash(from_record(run.config).algorithm(steps), steps)

    seen = set()
    for run in RunStore(ROOT / "results").runs():
        known = run.meta["extra"].get("content", {}).get("exchanges")
        kind = tuple(run.config.get(name) for name in ("method", "core", "graphs", "judge"))
        odd = run.meta["environment"]["commit"][:7] in JUDGED or "matcha" in kind  # whose weights a solver finds
        # Those whose leaders fade were recorded before what makes them differ late was part of the hash.
        odd = odd or "timing" in run.config
        if known and kind not in seen and not odd:
            seen.add(kind)
            assert known in hashes(run), run.csv
    assert len(seen) >= 4
