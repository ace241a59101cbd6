"""Every experiment's smoke preset trains, tabulates and draws; presets are what their claim headers say."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from aldsgd.data import split
from aldsgd.datasets import load
from aldsgd.differences import label_noise, scaled
from aldsgd.errors import ConfigError
from aldsgd.graphs import parse
from aldsgd.links import Pairs
from aldsgd.neighbourhood import Neighbourhood
from aldsgd.records import RunStore, key
from baselines.registry import VARIANTS
from experiments import all as runner
from experiments.configuration import RunConfig
from experiments.heterogeneous import spread_rates
from experiments.options import Execution
from experiments.pool import Pool
from experiments.runner import check, refuse_failed, work
from experiments.scales import CPU_CIFAR10, EVERY

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def execution(root: Path) -> Execution:
    return Execution(results=str(root), threads=1, quiet=True, checkpoint_every=0)


def plan(preset="smoke", seeds=None):
    return runner.plan(runner.EXPERIMENTS, Namespace(preset=preset, seeds=seeds, link=None))


def test_one_script_as_a_command(tmp_path):
    command = [sys.executable, "-m", "experiments.degree_effect", "--preset", "smoke", "--seeds", "0", "--threads", "1"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "points per neighbour" in done.stdout and "8 runs, 0 already complete" in done.stdout
    listing = json.loads((tmp_path / "experiments" / "degree_effect.json").read_text())
    assert listing["preset"] == "smoke" and len(listing["runs"]) == 8


def test_the_runner_survives_ctrl_c_and_a_lost_process_and_never_recomputes(tmp_path):
    # 32 runs, so that some are left when the signal comes, however fast the machine.
    command = [sys.executable, "-m", "experiments.all", "--preset", "smoke", "--only", "ablation", "degree_effect",
               "--seeds", "0", "1", "--jobs", "2", "--results", str(tmp_path)]  # fmt: skip

    def heed():
        # A suite that was started in the background hands down that Ctrl-C is ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def start():
        return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, start_new_session=True, preexec_fn=heed)  # fmt: skip

    first = start()
    while "[1/" not in (line := first.stdout.readline()):
        assert line, first.communicate()
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 130 and "complete runs are kept" in errors
    store = RunStore(tmp_path)
    kept = {run.csv: run.csv.stat().st_mtime_ns for run in store.runs()}
    assert 1 <= len(kept) < 32
    assert (tmp_path / "experiments" / "degree_effect.json").exists()
    second = start()
    out, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    assert f"{32 - len(kept)} runs to train" in out and f"[{32 - len(kept)}/{32 - len(kept)}] about 0 s left" in out
    assert len(store.runs()) == 32
    assert all(path.stat().st_mtime_ns == modified for path, modified in kept.items())


def test_a_worker_process_that_dies_costs_one_run(tmp_path):
    short = RunConfig(train_images=128, test_images=32, epochs=1, lr=0.1)
    tasks = [("run", i, short.but(seed=i, epochs=100000 if i == 1 else 1)) for i in range(4)]
    pool = Pool(1, work, execution(tmp_path))

    def kill_once_it_trains():
        while not list(tmp_path.glob(f"runs/*-{tasks[1][2].key}.csv.part")):
            time.sleep(0.05)
        pool.workers[0][1].kill()

    killer = threading.Thread(target=kill_once_it_trains, daemon=True)
    killer.start()
    try:
        results = []
        for task, _, error in pool.run(tasks):
            results.append((task[1], error))
            if task[1] == 2:  # lost between two runs: none of them is
                pool.workers[0][1].kill()
                pool.workers[0][1].join()
    finally:
        pool.close(patience=10)
    assert [seed for seed, _ in results] == [0, 1, 2, 3]
    assert [error for _, error in results] == [None, "its process ended with exit code -9", None, None]
    store = RunStore(tmp_path)
    assert [store.load(config.record()) is not None for _, _, config in tasks] == [True, False, True, True]


def test_a_failing_run_is_reported_and_the_others_go_on(tmp_path):
    good = RunConfig(train_images=128, test_images=32, epochs=1, lr=0.1)
    tasks = [("bad", 0, good.but(graph="no such graph")), ("good", 0, good)]
    with pytest.raises(ConfigError, match=r"1 of 2 runs failed; first bad, seed 0 \(ConfigError: unknown graph"):
        runner.train(tasks, runner.Clock(RunStore(tmp_path)), execution(tmp_path))
    assert RunStore(tmp_path).load(good.record()) is not None


def test_the_estimate_is_the_median_of_runs_of_the_same_kind(tmp_path):
    clock = runner.Clock(RunStore(tmp_path))
    config = CPU_CIFAR10
    assert clock(config) == pytest.approx((8 * 6000 + 4 * 2000 * 3) / 4000)
    for seconds in (10.0, 50.0, 20.0):
        clock.add(config.record(), seconds)
    assert clock(config.but(method="matcha", seed=7)) == 20.0
    assert [runner.duration(s) for s in (40, 600, 11100)] == ["40 s", "10 min", "3 h 05 min"]


def test_experiments_share_runs_and_labels_are_the_methods():
    assert EVERY == tuple(label for label in VARIANTS if label in EVERY) and len(EVERY) == 10
    plans = plan("cpu")
    keys = {name: {key(config.record()) for _, _, config in runs} for name, runs in plans.items()}
    assert keys["degree_effect"] <= keys["sparsity"] and keys["convergence"] <= keys["final_accuracy"]
    assert len(keys["sparsity"]) == 5 * 3 * 4 * 5
    assert len(set().union(*keys.values())) < sum(map(len, keys.values())) - 200
    for name in ("convergence", "final_accuracy", "sparsity", "baseline_audit"):
        assert {config.dataset for _, _, config in plans[name]} <= {"cifar10", "cifar100"}
        assert {seed for _, seed, _ in plans[name]} == set(range(5))


def test_the_paper_preset_is_the_papers_setting():
    for name in ("convergence", "sparsity", "ablation", "baseline_audit", "non_iid", "heterogeneous"):
        for label, config in importlib.import_module(f"experiments.{name}").configurations("paper", 3):
            assert (config.dataset, config.model, config.epochs) == ("cifar10", "resnet50_narrow", 200), label
            assert config.lr_drops == ((100, 0.1), (150, 0.1)) and config.batch == 16 and config.weight_decay == 5e-4
            assert config.train_images is None and config.test_images is None and config.augment and config.seed == 3
            assert config.lr == 0.4 or name == "heterogeneous"


def test_keys_of_runs_recorded_before_the_new_fields_stay():
    config = RunConfig(train_images=100, method="dpsgd")
    assert not {"start_scaled", "label_noise", "noisy_workers"} & set(config.record())
    assert config.but(label_noise=0.6).record() == config.but(noisy_workers=3).record() == config.record()
    noisy = config.but(label_noise=0.6, noisy_workers=2).record()
    assert (noisy["label_noise"], noisy["noisy_workers"]) == (0.6, 2)


def test_label_noise_is_wrong_where_it_should_be():
    data = load("digits").subset(400, 50)
    shards = split(data.train_targets, 8, "iid", 3)
    noisy = {}
    for count in (0, 2, 4, 8):
        changed = label_noise(data, shards, count, 0.6, 3).train_targets != data.train_targets
        shares = [changed[torch.as_tensor(shard)].sum().item() for shard in shards]
        assert sorted(shares) == [0] * (8 - count) + [round(0.6 * 50)] * count
        noisy[count] = {i for i, share in enumerate(shares) if share}
    assert noisy[2] < noisy[4]
    config = RunConfig(train_images=400, split="dirichlet", dirichlet_alpha=1.0, label_noise=0.6, noisy_workers=2)
    with pytest.raises(ConfigError, match="change the dirichlet split"):
        config.taught(data)
    with pytest.raises(ConfigError, match="0 to 8"):
        label_noise(data, shards, 9, 0.6, 3)
    with pytest.raises(ConfigError, match="share"):
        label_noise(data, shards, 2, 1.5, 3)


def test_a_scaled_start_scales_each_tensor_by_its_own_number():
    def build():
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))

    torch.manual_seed(5)
    plain = build()
    torch.manual_seed(5)
    other = scaled(build)()
    factors = []
    for p, q in zip(plain.parameters(), other.parameters(), strict=True):
        ratio = (q / p).detach().flatten()
        assert torch.allclose(ratio, ratio[:1].expand_as(ratio)) and 0 < ratio[0] < 2
        factors.append(ratio[0].item())
    assert len(set(factors)) == 4


def test_unequal_shards_grow_in_proportion():
    labels = np.zeros(3600, dtype=int)
    shards = split(labels, 8, "unequal", 1)
    assert [len(shard) for shard in shards] == [100 * i for i in range(1, 9)]
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(3600))
    with pytest.raises(ConfigError, match="below the minimum of 200"):
        split(labels, 8, "unequal", 1, None, 200)


def test_rates_are_spread_over_two_decades_by_degree():
    base = CPU_CIFAR10.but(lr=0.2)
    degrees = parse(base.graph, 8).degrees
    up, down = spread_rates(base, True), spread_rates(base, False)
    assert sorted(up) == sorted(down) and max(up) / min(up) == pytest.approx(100)
    assert np.prod(up) ** (1 / 8) == pytest.approx(0.2, rel=1e-3)
    low, high = degrees == degrees.min(), degrees == degrees.max()
    assert np.array(up)[low].max() < np.array(up)[high].min() and np.array(down)[low].min() > np.array(down)[high].max()


def test_one_map_of_coefficients_holds_all_four():
    """In the released order (c, p) and (b, 0) with b = (1 - p1 - p2) c + p are one method."""
    graph = parse("paper:69.2", 8)
    hood = Neighbourhood(8, Pairs(graph.matchings), range(8), "cpu")
    losses = torch.rand(8, dtype=torch.float64)[hood.col]
    full = RunConfig(graph="paper:69.2").but(c1=0.3, c2=0.1, p1=0.2, p2=0.2)
    b1, b2 = 0.6 * 0.3 + 0.2, 0.6 * 0.1 + 0.2
    assert (b1, b2) == pytest.approx((0.38, 0.26))
    ways = ({}, {"c1": b1, "c2": b2, "p1": 0.0, "p2": 0.0})
    exchanges = [full.but(**changes).algorithm(10).step(0).exchanges for changes in ways]
    rows = [exchange.rule.rows(hood, losses, 0.1) for (exchange,) in exchanges]
    torch.testing.assert_close(*rows, rtol=0, atol=1e-14)


@pytest.mark.parametrize("own", [False, True])
def test_a_check_builds_no_workers(monkeypatch, own):
    built = []

    def build(data):
        built.append(torch.get_default_device())
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    monkeypatch.setattr("aldsgd.models.build", lambda name, outputs, *_: build(None))
    monkeypatch.setattr("baselines.registry.imported", lambda name: build)
    check(RunConfig(model="own:build" if own else "mlp", train_images=128, test_images=32), Execution())
    assert [device.type for device in built] == ["cpu" if own else "meta"]


def test_failed_runs_are_one_sentence():
    refuse_failed([(("a", 0, None), None), (("b", 1, None), None)])
    with pytest.raises(ConfigError, match=r"^1 of 2 runs failed; first b, seed 1 \(lost\)"):
        refuse_failed([(("a", 0, None), None), (("b", 1, None), "lost")])
