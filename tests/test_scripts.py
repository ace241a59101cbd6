"""The scripts as a user meets them: options, errors in one line with exit code 2, and runs that are never repeated."""

import importlib
import json
import re
import runpy
import subprocess
import sys
from argparse import Namespace
from dataclasses import fields
from pathlib import Path

import pytest

from aldsgd import models
from aldsgd.data import SPLITS
from aldsgd.datasets import DATASETS
from aldsgd.engines import ENGINES
from aldsgd.errors import ConfigError
from aldsgd.listings import load_experiment, write_experiment
from aldsgd.records import CLOCK_COLUMNS, RunStore
from baselines.registry import METHODS
from experiments import all as all_experiments
from experiments import cifar10_short, quickstart, rates, run
from experiments.bench.common import place
from experiments.configuration import RunConfig, from_record
from experiments.options import OWN, Execution, configuration, execution, run_parser
from tests.calling import SHORT, call, files

ROOT = Path(__file__).parents[1]


@pytest.fixture
def edge_file(tmp_path):
    def write(text):
        path = tmp_path / "edges.txt"
        path.write_text(text)
        return f"file:{path}"

    return write


@pytest.mark.parametrize(
    "text, message",
    [
        ("0 1\n1 0\n", "(0, 1) appears twice"),
        ("0 1\n1 1\n", "self-loop"),
        ("0 1\n2 3\n", "components are [0, 1] [2, 3]"),
        ("0 one\n", "one"),
    ],
)
def test_bad_graph_files(tmp_path, edge_file, text, message):
    workers = 4 if "2 3" in text else 2
    arguments = ["--graph", edge_file(text), "--workers", workers, "--results", tmp_path / "results"]
    ended = call(run, *SHORT, *arguments)
    assert ended.refused and message in ended.err


def test_a_disconnected_graph_trains_where_it_is_allowed(tmp_path):
    ended = call(run, *SHORT, "--graph", "paper:38.5", "--disconnected", "--results", tmp_path)
    assert ended.code == 0 and "worst_accuracy" in ended.out


def test_a_results_folder_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    ended = call(run, *SHORT, "--results", blocked / "results")
    assert ended.refused and "cannot be written" in ended.err
    assert blocked.read_text() == "in the way"


def test_a_run_file_of_another_configuration_is_left_alone(tmp_path):
    assert call(run, *SHORT, "--results", tmp_path).code == 0
    path = next((tmp_path / "runs").glob("*.json"))
    meta = json.loads(path.read_text())
    meta["config"]["lr"] = 99.0
    path.write_text(json.dumps(meta))
    before = files(tmp_path)
    ended = call(run, *SHORT, "--results", tmp_path)
    assert ended.refused and "another configuration" in ended.err
    assert files(tmp_path) == before


def test_a_complete_run_is_never_computed_twice(tmp_path):
    assert call(run, *SHORT, "--results", tmp_path).code == 0
    before = files(tmp_path)
    assert call(run, *SHORT, "--results", tmp_path).code == 0
    assert files(tmp_path) == before


def test_damaged_data_is_named(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"\0\0\x08\x03not an image file")
    arguments = ["--dataset", "fashionmnist", "--data", tmp_path, "--results", tmp_path / "results"]
    ended = call(run, *SHORT, *arguments)
    assert ended.refused and "ubyte" in ended.err


def test_quickstart_as_a_user_runs_it(tmp_path):
    """As a subprocess: the table on stdout; then the facts that hold at any length of training."""
    done = subprocess.run(
        [sys.executable, "-m", "experiments.quickstart", "--preset", "smoke", "--seeds", "0", "--results", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "AL-DSGD, three graphs" in done.stdout
    final = {label: run_.network.iloc[-1] for label, _, run_ in load_experiment(tmp_path, "quickstart")}
    assert final["all-reduce"]["consensus_distance"] == 0 < final["D-PSGD"]["consensus_distance"]


def check_quickstart(results: Path) -> None:
    runs = load_experiment(results, "quickstart")
    final = {(label, seed): run.network.iloc[-1] for label, seed, run in runs}
    for seed in {seed for _, seed, _ in runs}:
        matcha, dpsgd = final["MATCHA", seed], final["D-PSGD", seed]
        released = final["D-PSGD (released schedule)", seed]
        assert matcha["logical_bytes"] <= 0.6 * dpsgd["logical_bytes"]
        assert released["consensus_distance"] >= 10 * dpsgd["consensus_distance"]
        assert final["all-reduce", seed]["consensus_distance"] == 0


def test_the_committed_quickstart_shows_what_it_claims():
    runs = load_experiment(ROOT / "results", "quickstart")
    assert len(runs) == 40 and {seed for _, seed, _ in runs} == set(quickstart.SEEDS["cpu"])
    check_quickstart(ROOT / "results")


def test_the_committed_cifar10_runs_learn():
    runs = load_experiment(ROOT / "results", "cifar10_short")
    assert [label for label, _, _ in runs] == ["D-PSGD", "AL-DSGD on D-PSGD"]
    for _, _, run_ in runs:
        assert run_.config["test_images"] is None and run_.config["epochs"] >= 3 and run_.config["lr"] == 0.4
        assert run_.network.iloc[-1]["mean_accuracy"] >= 0.30
        assert run_.network.iloc[-1]["worst_accuracy"] > 0.10


def test_two_runs_of_one_configuration_differ_in_clocks_alone(tmp_path):
    frames = []
    for name in ("one", "two"):
        longer = ("--model", "mlp", "--train-images", "160", "--test-images", "40", "--graphs", "2")
        assert call(run, *SHORT, *longer, "--results", tmp_path / name).code == 0
        frames.append(RunStore(tmp_path / name).runs()[0].rows.drop(columns=list(CLOCK_COLUMNS)))
    assert frames[0].equals(frames[1])


def test_configurations_share_a_key_exactly_when_they_are_the_same_run():
    record = RunConfig(method="dpsgd").record()
    assert RunConfig(method="dpsgd").but(c1=0.9, core="matcha", budget=0.1).record() == record
    assert RunConfig(method="dpsgd", graph_order="released").record() == record
    assert RunConfig(method="dpsgd", lr=0.1).record() != record
    assert RunConfig(method="dpsgd", graphs=2).record() != record
    released = RunConfig().but(core="dpsgd_released").record()
    assert RunConfig().but(core="dpsgd_released", weights="metropolis", force_scale="lr").record() == released
    assert RunConfig(method="single", graph="ring", graphs=3).record() == RunConfig(method="single").record()
    with pytest.raises(ConfigError, match="dpsgd_released, dpsgd, matcha"):
        RunConfig().but(core="gossip").record()


def test_presets():
    paper = dict(cifar10_short.configurations("paper", 3))["D-PSGD"]
    assert (paper.epochs, paper.lr, paper.batch, paper.lr_drops) == (200, 0.4, 16, ((100, 0.1), (150, 0.1)))
    assert paper.model == "resnet50_narrow" and paper.seed == 3 and paper.augment


SOURCES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "experiments").rglob("*.py"))
}
#: Those that a user calls, which say with which command; the benches start two more files in processes of their own.
SCRIPTS = [
    name for name, source in SOURCES.items()
    if f"python -m {name.removesuffix('.py').replace('/', '.').removesuffix('.__main__')}" in source
]  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_help(monkeypatch, capsys, name):
    source = SOURCES[name]
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / name), run_name="__main__")
    out = capsys.readouterr().out
    assert stop.value.code == 0 and "--results" in out
    folders = re.findall(r"--results [A-Z]+ [^()\]-]*\(default: (\w+)", " ".join(out.split()))
    own = {"experiments/run.py": ["my_results"], "experiments/soak.py": []}  # the latter has to be told where
    assert folders == own.get(name, ["results"])
    assert source.split('"""')[1].splitlines()[0] in out


@pytest.mark.parametrize("name", [name for name in SCRIPTS if "script(__file__" in SOURCES[name]])
def test_a_smoke_preset_never_touches_the_results(monkeypatch, capsys, tmp_path, name):
    """Its runs and its list are in a folder of the cache, unless it is told another; nothing appears elsewhere."""
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    made = []

    def stand_in(session, name, entries, how, preset, conditions):
        made.append((name, preset, Path(how.results)))
        listed = [(label, seed, c.record()) for label, seed, c in entries]
        write_experiment(how.results, name, preset, listed, conditions)

    monkeypatch.setattr("experiments.runner.run_experiment", stand_in)
    monkeypatch.setattr("paper_tables.render", lambda name, results: f"table of {name}")
    for options, folder in ((), tmp_path / "cache" / "smoke"), (("--results", "mine"), Path("mine")):
        monkeypatch.setattr(sys, "argv", [name, "--preset", "smoke", "--seeds", "0", *options])
        runpy.run_path(str(ROOT / name), run_name="__main__")
        assert made.pop() == (Path(name).stem, "smoke", folder)
        assert (folder / "experiments" / f"{Path(name).stem}.json").exists()
    assert capsys.readouterr().out == f"table of {Path(name).stem}\n" * 2
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["mine"]


def test_everything_is_listed_without_torch_and_without_training(tmp_path):
    code = (
        "import runpy, sys\nfor results in sys.argv[1:]:\n"
        "    sys.argv = ['all', '--list', '--preset', 'cpu', '--results', results]\n"
        "    runpy.run_module('experiments.all', run_name='__main__')\n    print('=====')\n"
        "assert 'torch' not in sys.modules"
    )
    folders = (ROOT / "results", tmp_path / "none")
    before = [sorted(results.rglob("*")) for results in folders]
    done = subprocess.run([sys.executable, "-c", code, *folders], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = all_experiments.plan(all_experiments.EXPERIMENTS, Namespace(preset="cpu", seeds=None, link=None))
    *texts, rest = done.stdout.split("=====\n")
    for text, said in zip(texts, ("0 runs to train", "runs to train, about"), strict=True):
        assert said in text and all(name in text for name in listed) and len(listed) >= 13
    assert rest == "" and [sorted(results.rglob("*")) for results in folders] == before


ONLY = ("--preset", "smoke", "--only", "degree_effect", "--seeds", "0")


@pytest.mark.parametrize("script, options, size, said", [
    (all_experiments, (*ONLY, "--device", "abacus"), 1, "--device abacus cannot be used"),
    (all_experiments, ONLY, 2, "start it without, with --jobs"),
    (all_experiments, (*ONLY, "--list"), 2, "start it without, with --jobs"),
    (run, (*SHORT, "--jobs", "2"), 2, "--jobs has no effect on 2 processes that a launcher started"),
])  # fmt: skip
def test_what_would_train_nothing_or_all_twice_is_refused_before(monkeypatch, tmp_path, script, options, size, said):
    monkeypatch.setenv("WORLD_SIZE", str(size))
    ended = call(script, *options, "--results", tmp_path)
    assert ended.refused and said in ended.err and not files(tmp_path)


def test_an_experiment_without_chosen_rates_is_left_out(monkeypatch, capsys):
    monkeypatch.delitem(rates.OWN, "momentum")
    planned = all_experiments.plan(["sparsity", "momentum"], Namespace(preset="mid", seeds=[0], link=None))
    assert list(planned) == ["sparsity"] and len(planned["sparsity"]) == 8
    assert capsys.readouterr().out.startswith(
        "momentum is left out: no rate has been chosen for D-PSGD in momentum; run"
    )


def test_every_committed_run_is_found_by_its_configuration():
    store, found = RunStore(ROOT / "results"), set()
    for run_ in store.runs():
        assert json.loads(json.dumps(from_record(run_.config).record())) == run_.config
        assert from_record(run_.config).key == run_.key
    plan = all_experiments.plan(all_experiments.EXPERIMENTS, Namespace(preset="cpu", seeds=None, link=None))
    for name, entries in plan.items():
        assert [(label, seed) for label, seed, config in entries if store.load(config.record()) is None] == [], name
        found |= {config.key for _, _, config in entries}
    assert len(store.runs()) > 2400 and len(found) > 1400


def test_a_reader_that_has_enough_ends_the_script_quietly():
    code = f"{sys.executable} -m experiments.quickstart --preset cpu | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and "40 already complete" in done.stdout and done.stderr == ""


def test_a_run_has_no_presets(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ended = call(run, *SHORT, "--preset", "smoke")
    assert ended.refused and "unrecognized arguments: --preset smoke" in ended.err and not files(tmp_path)
    assert execution(run_parser("").parse_args([]), OWN).results == "my_results"


def test_options_of_the_older_spelling_are_read():
    old = [
        "--train_images",
        "100",
        "--lr_drops",
        "1:0.5",
        "2:0.1",
        "--force_scale=lr",
        "--order=printed",
        "--checkpoint_every",
        "3",
    ]
    new = [word.replace("_", "-") if word.startswith("--") else word for word in old]
    parsed = [run_parser("").parse_args(words) for words in (old, new)]
    assert (
        configuration(parsed[0])
        == configuration(parsed[1])
        == RunConfig(train_images=100, lr_drops=((1, 0.5), (2, 0.1)), options={"order": "printed", "force_scale": "lr"})
    )
    old, new = (execution(options, OWN) for options in parsed)
    assert old == new and old.checkpoint_every == 3


def test_optimizers_and_schedules_by_option():
    words = "--optimizer adamw --betas 0.8 0.99 --schedule cosine --warmup 2.5"
    config = configuration(run_parser("").parse_args(words.split()))
    assert (config.optimizer, config.betas, config.schedule, config.warmup) == ("adamw", (0.8, 0.99), "cosine", 2.5)
    config = configuration(run_parser("").parse_args("--momentum 0.9 --nesterov --schedule constant".split()))
    assert (config.momentum, config.nesterov, config.schedule) == (0.9, True, "constant")
    default = RunConfig().record()
    assert not {"optimizer", "momentum", "nesterov", "betas", "schedule", "warmup"} & set(default)
    assert config.record() == {**default, "momentum": 0.9, "nesterov": True, "schedule": "constant"}


def test_help_explains_every_option():
    ended = call(run, "--help")
    out = " ".join(ended.out.split())
    assert ended.code == 0
    described = [field for field in fields(RunConfig) if "help" in field.metadata and field.name != "seed"]
    for field in (*described, *fields(Execution), *(f for m in METHODS.values() for f in fields(m.options))):
        assert f"--{field.name.replace('_', '-')} " in out and field.metadata["help"] in out, field.name
    for name in (*METHODS, *DATASETS, *models.NAMES, *ENGINES, *SPLITS, "(default: 0.0005)", "(default: paper:53.8)"):
        assert name in out, name


def test_without_any_option_the_defaults_are_the_run(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run"])
    assert configuration(run_parser("").parse_args()) == RunConfig()


@pytest.mark.parametrize(
    "name, words",
    [
        ("__main__", ["--quick"]),
        ("__main__", ["--network"]),
        ("__main__", ["--gpu", "--quick"]),
        ("agreement", []),
        ("gpu", ["--quick"]),
    ],
)
def test_a_bench_looks_at_its_folder_before_it_measures(tmp_path, name, words):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    ended = call(importlib.import_module(f"experiments.bench.{name}"), *words, "--results", blocked)
    assert ended.refused and ended.out == "" and blocked.read_text() == "in the way", ended


def test_a_bench_in_haste_never_takes_the_committed_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert place(None, "cpu.csv", part=True) == Path("my_results/bench/cpu.csv")
    assert place(None, "cpu.csv", part=False) == Path("results/bench/cpu.csv")
    assert place("mine", "cpu.csv", part=True) == Path("mine/bench/cpu.csv")


def test_an_option_at_its_default_is_no_mistake():
    def made(words):
        words = words.split()
        return configuration(run_parser("", words).parse_args(words))

    told = made("--method aldsgd --judge batch --timing constant --shift 0 --selection argmin")
    assert told.record() == made("--method aldsgd").record()
    assert made("--method allreduce --reduce ring --graphs 1").record() == made("--method allreduce").record()
