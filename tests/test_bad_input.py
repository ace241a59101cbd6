"""What a user gets wrong: exit code 2, one line on stderr that starts with "error: ", and nothing overwritten."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import paper_tables
import theory_report
from aldsgd.checkpoint import Checkpoints
from aldsgd.records import RunStore
from baselines import registry
from experiments import run, runner
from experiments.configuration import RunConfig, from_record
from experiments.options import Execution
from figures import quickstart
from tests.calling import SHORT, call, files

ROOT = Path(__file__).parents[1]

#: Options, and what the line says; docs/bad_input.md shows them.
CASES = [tuple(line.split(" | ")) for line in (ROOT / "tests" / "refused.txt").read_text().splitlines()]


@pytest.mark.parametrize("options, said", CASES, ids=[options for options, _ in CASES])
def test_is_refused_in_one_line(tmp_path, options, said):
    ended = call(run, *SHORT, "--results", tmp_path / "results", *options.split(" "))
    assert ended.refused and said in ended.err, ended
    assert not (tmp_path / "results").exists() or not files(tmp_path / "results")


def test_lines_of_what_was_typed_are_one_line(tmp_path):
    for option in ("--dataset", "--model", "--graph", "--method", "--split", "--device", "--lr", "--core"):
        assert call(run, *SHORT, "--results", tmp_path, option, "one\ntwo").refused


@pytest.mark.parametrize("script, arguments, words", [
    (paper_tables, ["--form", "csv"], "unrecognized arguments: --form csv"),
    (paper_tables, ["--format", "html"], "invalid choice: 'html'"),
    (paper_tables, ["one\ntwo"], "unrecognized arguments: one two"),
    (paper_tables, ["--claims", "--table", "x"], "--table has no effect with --claims"),
    (paper_tables, ["--claims", "--format", "latex"], "--format has no effect with --claims"),
    (paper_tables, ["--into", "F", "--out", "G"], "--out has no effect with --into"),
    (paper_tables, ["--into", "F", "--claims"], "--claims has no effect with --into"),
    (theory_report, ["--che"], "unrecognized arguments: --che"),
    (theory_report, ["--out"], "expected one argument"),
    (quickstart, ["--wid", "3.5"], "unrecognized arguments: --wid 3.5"),
    (quickstart, ["--width", "4"], "invalid choice: 4.0"),
])  # fmt: skip
def test_a_bad_option_of_what_tells_and_draws_is_one_line(tmp_path, monkeypatch, capsys, script, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert script.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and words in printed.err
    assert not any(tmp_path.iterdir())


# Any options with any values

#: Values that make sense (with the right others), and values that never do.
VALUES = {
    "method": ("dpsgd aldsgd matcha allreduce single dpsgd_cwa", "7 DPSGD"),
    "model": ("logistic mlp cnn", "gru Logistic"),
    "graph": ("ring line paper:53.8 star torus:2x4 complete paper:38.5", "ring: ring4 torus:3x3"),
    "workers": ("8 1 2 4", "-2 2e0 1e9 0"),
    "graphs": ("1 2 3", "0 x 65"),
    "graph-order": ("uniform released", "none"),
    "batch": ("1 8 64", "0 4.5"),
    "lr": ("0.1 0 1e6 -0", "nan -0.1 0x1"),
    "lr-drops": ("0:0.5 1:2 0:0", "0:-1 : 1 -1:1"),
    "weight-decay": ("0 0.1", "inf -1e-9"),
    "optimizer": ("sgd adam adamw", "SGD"),
    "momentum": ("0 0.9 0.999", "1 -1"),
    "schedule": ("steps cosine constant", "step"),
    "warmup": ("0 0.5 3", "-1 nan"),
    "start": ("same mean different", "0"),
    "split": ("iid label unequal dirichlet", "none"),
    "dirichlet-alpha": ("0.5 100 none", "0 -1"),
    "label-noise": ("0 0.5 1", "1.1 nan"),
    "noisy-workers": ("0 1 2", "-1 0.5 9"),
    "min-shard": ("1 4", "0 1000000"),
    "eval-every": ("1 7", "0"),
    "bn-images": ("1 5000", "-1"),
    "precision": ("float64 bf16 float32", "half"),
    "engine": ("loop vmap auto stacked", "fast"),
    "c1": ("0 0.6 3", "-1 none"),
    "period": ("1 3", "0 1.0"),
    "core": ("dpsgd matcha dpsgd_released", "single"),
    "budget": ("0.5 1", "0 2"),
    "latency": ("0 1", "-1"),
    "seeds": ("1 4294967295", "-1 one"),
}


@st.composite
def command_lines(draw) -> list[str]:
    """Up to six options, of which every eighth or so has a value that makes no sense."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=6))
    kinds = [VALUES[name][draw(st.integers(0, 7)) == 7] for name in names]
    return [f"--{name}={draw(st.sampled_from(kind.split()))}" for name, kind in zip(names, kinds, strict=True)]


def test_any_options_train_or_are_refused():
    codes = []

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(command_lines())
    def tried(chosen):
        with tempfile.TemporaryDirectory() as results:
            ended = call(run, *SHORT, "--results", results, *chosen)
            codes.append(ended.code)
            if ended.code == 0:
                (trained,) = RunStore(results).runs()
                assert json.loads(json.dumps(from_record(trained.config).record())) == trained.config
                assert len(trained.workers) == trained.config["workers"] and set(trained.network["epoch"]) == {1}
            else:
                assert ended.refused and not files(Path(results)), (chosen, ended)

    tried()
    assert min(codes.count(0), codes.count(2)) >= 50


# What a name stands for


def test_another_graph_in_the_same_file_is_another_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = (
        *SHORT,
        "--method",
        "dpsgd",
        "--workers",
        "4",
        "--graph",
        "file:e.txt",
        "--results",
        tmp_path / "results",
    )
    Path("e.txt").write_text("0 1\n1 2\n2 3\n3 0\n")
    assert call(run, *options).code == 0
    Path("e.txt").write_text("# the same ring\n3 0\n2 3\n1 2\n0 1\n")
    again = call(run, *options)
    assert again.code == 0 and "1 already complete" in again.out
    assert "nothing is trained" in again.out and "--results DIR" in again.out
    Path("e.txt").write_text("0 1\n1 2\n2 3\n")
    other = call(run, *options)
    assert other.code == 0 and "0 already complete" in other.out
    assert len(RunStore(tmp_path / "results").runs()) == 2


def test_another_text_in_the_same_file_is_another_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--quiet", "--epochs", "1", "--workers", "2", "--graph", "line", "--method", "dpsgd", "--lr", "0.1",
               "--dataset", "text:t.txt", "--model", "gru", "--results", tmp_path / "results")  # fmt: skip
    for text in ("to be or not to be. " * 100, "that is the question " * 100):
        Path("t.txt").write_text(text)
        ended = call(run, *options)
        assert ended.code == 0 and "0 already complete" in ended.out and "worst_perplexity" in ended.out
    assert "1 already complete" in call(run, *options).out


OWN = """
import torch
from aldsgd.algorithm import Algorithm
from aldsgd.datasets import Data
from aldsgd.links import Pairs
from aldsgd.step import Exchange, Gossip, Step

class Slow(Algorithm):
    def __init__(self, graphs, every=2, weight=0.25, seed=0):
        self.n, self.every, self.weight, self.pairs = graphs[0].n, every, weight, Pairs(graphs[0].matchings)
    def step(self, t):
        return Step(after=Exchange(self.pairs, Gossip(self.weight)) if t % self.every == 0 else ())

def build(data):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(data.train_inputs[0].numel(), data.outputs))

def data():
    draw = torch.Generator().manual_seed(0)
    return Data.from_arrays(*(torch.randn(40, 3, generator=draw), torch.arange(40) % 2) * 2)
"""


def test_methods_models_and_data_of_ones_own(tmp_path, monkeypatch, request):
    """Here and in processes of their own, from the working directory; a changed source file is another run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = ["--quiet", "--workers", "4", "--graph", "ring", "--epochs", "2", "--batch", "5", "--results", "results"]

    def words(name, *more):
        return ["--method", f"{name}:Slow", "--model", f"{name}:build", "--data", f"{name}:data", *options, *more]

    def own(*more):
        command = [sys.executable, "-m", "experiments.run", *words("mine", *more)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    def here(name, text, *more):
        (tmp_path / f"{name}.py").write_text(text)
        request.addfinalizer(lambda: sys.modules.pop(name, None))
        return call(run, *words(name, *more))

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    request.addfinalizer(registry._own.cache_clear)
    request.addfinalizer(lambda: registry.VARIANTS.pop("Slow", None))
    first = here("mine", OWN, "--every", "3")
    assert first.code == 0 and "0 already complete" in first.out, first.err
    assert "1 already complete" in here("mine", OWN, "--every=3", "--weight=0.25").out
    pooled = own("--jobs", "2", "--seeds", "1", "2")
    assert pooled.returncode == 0, pooled.stderr
    (tmp_path / "mine.py").write_text(OWN.replace("randn(40", "randn(44").replace("arange(40)", "arange(44)"))
    assert "0 already complete" in own("--every", "3").stdout
    runs = RunStore(tmp_path / "results").runs()
    assert len(runs) == 4 and {run_.config["every"] for run_ in runs} == {2, 3}
    assert len({run_.config[name] for run_ in runs for name in ("method_source", "model_source", "data_source")}) == 2
    failed = here("mine_failing", OWN + "\nraise RuntimeError('one\\ntwo')")
    assert failed.refused and "mine_failing:Slow cannot be loaded (RuntimeError: one two; " in failed.err
    assert "mine_failing.py, line " in failed.err
    assert "has an option by the name of another" in here("mine_alike", OWN.replace("every=2", "lr=2")).err


def images(folder: Path, seed: int) -> None:
    """Ten classes of 28 x 28 noise as image folders."""
    from PIL import Image

    draws = np.random.default_rng(seed)
    for part, count in (("train", 4), ("test", 1)):
        for label in range(10):
            (folder / part / str(label)).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                image = Image.fromarray(draws.integers(0, 256, (28, 28), dtype=np.uint8))
                image.save(folder / part / str(label) / f"{i}.png")


def test_a_whole_run_of_other_data_is_not_taken_for_this_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path / "cache"))
    results, data = tmp_path / "results", tmp_path / "data"
    options = ("--quiet", "--epochs", "1", "--dataset", "fashionmnist", "--data", data, "--method", "dpsgd", "--model",
               "logistic", "--workers", "2", "--graph", "line", "--batch", "4", "--results")  # fmt: skip
    images(data / "fashionmnist", 0)
    assert call(run, *options, results).code == 0
    assert "1 already complete" in call(run, *options, results).out
    before = files(results)
    shutil.rmtree(data)
    assert "1 already complete" in call(run, *options, results).out
    images(data / "fashionmnist", 1)
    other = call(run, *options, results)
    assert other.refused and "was trained on other data than fashionmnist is now" in other.err
    assert "name another folder with --results" in other.err and files(results) == before
    assert call(run, *options, tmp_path / "other").code == 0
    # A record from before contents were kept is taken as it is.
    (path,) = (results / "runs").glob("*.json")
    meta = json.loads(path.read_text())
    del meta["extra"]["content"]
    path.write_text(json.dumps(meta))
    assert "1 already complete" in call(run, *options, results).out


# What the store holds


CONFIG = RunConfig(model="logistic", train_images=64, test_images=16, batch=8, epochs=3, lr=0.1)


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(lr=0.2), "lr 0.2 there, 0.1 here"),
        (dict(method="dpsgd"), "method 'DPSGD' there, 'ALDSGD' here"),
        (dict(workers=4, graph="ring"), "workers 4 there, 8 here"),
        (dict(train_images=63), "data"),
        (dict(graph="ring"), "exchanges"),
        (dict(optimizer="adam"), "optimizer 'adam' there, 'sgd' here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changes, said):
    store, other = RunStore(tmp_path), runner.prepare(CONFIG.but(**changes), Execution())
    other.save(Checkpoints(runner.checkpoints_of(store, CONFIG).folder, other.identity()), 1, [])
    before = files(tmp_path)
    options = (*SHORT, "--epochs", "3", "--lr", "0.1", "--results", tmp_path)
    ended = call(run, *options)
    assert ended.refused and "holds a checkpoint of another run" in ended.err and said in ended.err
    assert {name: content for name, content in files(tmp_path).items() if "checkpoints" in name} == before
    shutil.rmtree(tmp_path / "checkpoints")
    assert call(run, *options).code == 0


def test_a_run_that_another_process_has_just_completed_is_not_trained_again(tmp_path, monkeypatch):
    store, prepare, states = RunStore(tmp_path), runner.prepare, []

    def late(config, execution, world=None):
        monkeypatch.setattr(runner, "prepare", prepare)
        runner.train_run(store, config, execution)
        states.append(files(tmp_path))
        trainer = prepare(config, execution, world)
        trainer.run = lambda **_: pytest.fail("it is trained again")
        return trainer

    monkeypatch.setattr(runner, "prepare", late)
    assert call(run, *SHORT, "--results", tmp_path).code == 0
    assert files(tmp_path) == states[0] and len(store.runs()) == 1


@pytest.mark.parametrize("place", ["", "runs", "checkpoints", "csv", "json", "part"])
def test_something_in_the_place_of_what_is_to_be_written(tmp_path, place):
    results, options = tmp_path / "results", (*SHORT, "--epochs", "2", "--lr", "0.1", "--checkpoint-every", "1")
    if place in ("", "runs", "checkpoints"):
        blocked = results / place
        blocked.parent.mkdir(exist_ok=True)
        blocked.write_text("in the way")
    else:
        suffix = {"csv": ".csv", "json": ".json", "part": ".csv.part"}[place]
        stem = RunStore(results).stem(CONFIG.but(epochs=2).record())
        blocked = results / "runs" / f"{stem}{suffix}"
        blocked.mkdir(parents=True)
        (blocked / "file").write_text("in the way")
    ended = call(run, *options, "--results", results)
    assert ended.refused and str(results) in ended.err, ended
    assert (blocked if blocked.is_file() else blocked / "file").read_text() == "in the way"
    assert not RunStore(results).runs()


@pytest.mark.parametrize(
    "room, full", [(100, ".csv.part"), (400, ".csv.part"), (1200, ".json"), (5000, "epoch-000001")]
)
def test_a_full_disk(tmp_path, monkeypatch, room, full):
    """No file may grow beyond ``room`` bytes: the first row, the rows, the JSON, a checkpoint cannot be written."""
    options = (*SHORT, "--workers", "1", "--method", "single", "--results", tmp_path)
    options += ("--model", "mlp", "--epochs", "2", "--checkpoint-every", "1") if "epoch" in full else ()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        ended = call(run, *options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended.refused and f"{full} cannot be written (File too large)" in ended.err, ended
    assert not RunStore(tmp_path).runs()
    assert call(run, *options).code == 0 and len(RunStore(tmp_path).runs()) == 1


# What went wrong in training


def test_a_run_that_diverged_says_so_once(tmp_path):
    options = ("--quiet", "--epochs", "2", "--train-images", "640", "--test-images", "40", "--method", "aldsgd")
    ended = call(run, *options, "--lr", "50", "--results", tmp_path)
    assert ended.code == 0 and ended.err.count("warning: the run diverged: ") == 1 == ended.err.count("\n")
    (trained,) = RunStore(tmp_path).runs()
    step = trained.meta["extra"]["diverged"]
    assert 0 < step < 10 and f"at step {step} of 10; the largest learning rate is 50; try" in ended.err
    assert call(run, *options, "--lr", "0.1", "--results", tmp_path / "tame").err == ""
    (tame,) = RunStore(tmp_path / "tame").runs()
    assert tame.meta["extra"]["diverged"] is None
