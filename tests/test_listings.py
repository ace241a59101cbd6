"""Lists of runs: which runs an experiment or a command has, and what never replaces them."""

import json
from itertools import combinations

import numpy as np
import pytest

from aldsgd.errors import ConfigError
from aldsgd.listings import PRESETS, check_experiment, load_experiment, write_experiment
from aldsgd.records import RunStore, key
from experiments.all import write_lists
from experiments.configuration import RunConfig
from tests.test_records import CONFIG, record


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
