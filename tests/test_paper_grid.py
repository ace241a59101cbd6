"""The grid of the paper's runs: what it holds, that it goes on after a stop, needs few packages; and the GPU bench."""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aldsgd import models
from aldsgd.errors import ConfigError
from aldsgd.records import RunStore
from experiments import paper_grid, scales
from experiments.command import Session
from tests.calling import call

ROOT = Path(__file__).parents[1]
#: What a GPU machine need not have.
MISSING = ("cvxpy", "sklearn", "matplotlib", "hypothesis")


def script(*arguments: str, missing=(), cache=None) -> subprocess.CompletedProcess:
    """Run a module as a script where the packages of ``missing`` cannot be imported."""
    block = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({missing!r}))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"ALDSGD_CACHE": str(cache)} if cache else {})
    return subprocess.run(
        [sys.executable, "-c", block, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_grid_is_the_papers_setting_most_telling_first(monkeypatch):
    lines = paper_grid.grid("paper")
    first = [(number, config.graph, config.method, config.graphs, config.seed) for number, _, config in lines[:9]]
    assert first == [
        (1, "paper:53.8", "dpsgd_released", 1, 0), (1, "paper:53.8", "dpsgd", 1, 0),
        (1, "paper:53.8", "aldsgd", 1, 0), (1, "paper:53.8", "aldsgd", 3, 0),
        (2, "paper:100", "dpsgd_released", 1, 0), (2, "paper:100", "dpsgd", 1, 0),
        (2, "paper:100", "aldsgd", 1, 0), (2, "paper:100", "aldsgd", 3, 0), (2, "paper:100", "matcha", 1, 0),
    ]  # fmt: skip
    assert len(lines) == len({json.dumps(config.record()) for _, _, config in lines}) == 5 * 5 * 5
    assert len({(label, config.seed) for _, label, config in lines}) == len(lines)
    # The same setting as that of the experiments, but for the epochs between tests.
    assert paper_grid.CIFAR10.but(eval_every=scales.PAPER_CIFAR10.eval_every) == scales.PAPER_CIFAR10
    for _, _, config in lines:
        assert (config.workers, config.batch, config.epochs, config.lr) == (8, 16, 200, 0.4)
        assert config.eval_every == 1 and config.precision == "float32"
        if config.seed == 0:
            assert config.algorithm(steps_per_epoch=391).n == 8
    for other in ("cpu", "mid"):
        with pytest.raises(ConfigError, match=f"no preset {other}; use smoke or paper"):
            paper_grid.grid(other)
    monkeypatch.setattr(sys, "argv", ["paper_grid", "--stages", "9"])
    with pytest.raises(ConfigError, match="1 to 7"):
        paper_grid.main(Session())


def test_it_goes_on_after_its_time_limit_and_lists_what_it_knows(tmp_path):
    words = ("--preset", "smoke", "--stages", "1", "--quiet", "--results", tmp_path)
    stopped = call(paper_grid, *words, "--time-limit", "0.01")
    assert stopped.code == 3 and "the same command goes on" in stopped.out
    assert not list((tmp_path / "runs").glob("*.json"))
    whole = call(paper_grid, *words)
    assert whole.code == 0, whole.err
    runs = RunStore(tmp_path).runs()
    assert len(runs) == 4 and whole.out.count("not measured") == 4
    assert "4 already complete" in call(paper_grid, *words).out

    # On a GPU the minutes are those of the run's own clocks.
    run = runs[0]
    assert paper_grid.minutes(run) is None and paper_grid.minutes(None) is None
    run.meta["environment"]["hardware"]["device"] = "some GPU"
    clocks = [run.network[name].iloc[-1] for name in run.network if name.startswith("seconds_")]
    assert len(clocks) == 3 and paper_grid.minutes(run) == pytest.approx(sum(clocks) / 60)


#: A run of the grid's MATCHA through the same parts as the script, on random images.
ONE_RUN = """
import torch
from aldsgd.datasets import Data
from aldsgd.training import Trainer
from experiments.paper_grid import grid

config = next(c for _, _, c in grid("paper") if c.method == "matcha" and c.graph == "paper:100")
config = config.but(model="resnet_small", epochs=1)
images, labels = torch.randint(256, (160, 3, 8, 8), dtype=torch.uint8), torch.arange(160) % 10
data = Data.from_arrays(images, labels, images, labels)
trainer = Trainer(config.algorithm(2), config.build(data), data, config.settings())
print(len(trainer.run().rows), "rows")
"""


def test_it_runs_without_the_packages_a_gpu_machine_lacks(tmp_path, monkeypatch):
    code = f"import sys\nsys.modules.update(dict.fromkeys({MISSING!r}))\n{ONE_RUN}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ALDSGD_CACHE": str(tmp_path)}

    def one_run():
        return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)

    refused = one_run()
    assert refused.returncode == 1 and "ConfigError: MATCHA's weights need cvxpy" in refused.stderr
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path))
    prepared = call(paper_grid, "--stages", "2", "--prepare")
    assert prepared.code == 0 and "solved" in prepared.out
    ran = one_run()
    assert ran.returncode == 0 and ran.stdout == "9 rows\n", ran.stderr
    assert script("experiments.paper_grid", "--list", missing=MISSING, cache=tmp_path).returncode == 0


def test_comparison_of_precisions_needs_three_pairs(tmp_path):
    lines = [line for line in paper_grid.grid("smoke") if line[2].method == "dpsgd"][:1]
    options, store = argparse.Namespace(link=None), RunStore(tmp_path)
    assert "no run" in paper_grid.comparison(lines, "bf16", store, options)
    lines = [(1, lines[0][1], lines[0][2].but(seed=seed)) for seed in range(3)]
    for _, _, config in lines:
        for precision, shift in (("float32", 0.0), ("bf16", 0.2)):
            row = {name: 0.5 + shift + 0.01 * config.seed * (1 + shift) for name in paper_grid.COMPARED}
            with store.writer(config.but(precision=precision).record(), {"hardware": {"device": None}}) as writer:
                writer.append([{"epoch": 1, "step": 1, "worker": None, **row}])
                writer.finish({})
    text = paper_grid.comparison(lines, "bf16", store, options)
    assert text.count("EXCLUDES 0") == 3 and "+0.20" in text
    assert "3 are needed" in paper_grid.comparison(lines[:2], "bf16", store, options)


def test_bench_counts_operations_and_bytes():
    from experiments.bench import gpu as bench_gpu

    counted = bench_gpu.count("logistic")
    features = 3 * 32 * 32
    assert counted["parameters"] == features * 10 + 10
    # One product forward; of the backward pass the weights' gradient alone, since images need none.
    assert counted["test"] == 2 * features * 10 and counted["train"] == 2 * counted["test"]
    assert counted["outputs"] == features + 10
    narrow = bench_gpu.count("resnet50_narrow")
    assert narrow["test"] / 2 == pytest.approx(65e6, rel=0.01)
    assert 2.9 < narrow["train"] / narrow["test"] < 3
    compute = bench_gpu.floor_seconds(narrow, 8, 16, "float32", 1e12, 1e18)
    assert compute == pytest.approx(narrow["train"] * 128 / 1e12)
    memory = bench_gpu.floor_seconds(narrow, 8, 16, "bf16", 1e18, 1e12)
    assert memory == pytest.approx((5 * 2 * 128 * narrow["outputs"] + 11 * 4 * 8 * narrow["parameters"]) / 1e12)
    assert set(bench_gpu.MODELS) == set(models.NAMES) - {"gru"}  # all that take images


def test_bench_tries_itself_on_a_cpu_and_refuses_to_measure_without_a_gpu(tmp_path):
    options = (
        "--models",
        "mlp",
        "--workers",
        "2",
        "--precisions",
        "float32",
        "--repeats",
        "1",
        "--results",
        str(tmp_path),
    )
    tried = script("experiments.bench.gpu", "--quick", *options)
    assert tried.returncode == 0, tried.stderr
    with open(tmp_path / "bench" / "gpu_quick.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [row["path"] for row in rows if row["what"] == "step"]
    assert steps[:5] == ["plain", "loop", "vmap", "stacked", "streams"] or torch.cuda.is_available()
    assert all(float(row["ms"]) > 0 and row["times_plain"] for row in rows if row["what"] == "step")
    assert [row["path"] for row in rows if row["what"] == "test"] == ["loop", "stacked"]
    if not torch.cuda.is_available():
        refused = script("experiments.bench.gpu", "--results", str(tmp_path))
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
