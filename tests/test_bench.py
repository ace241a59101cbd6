"""The benches: their step is a trainer's, and what they refuse, they refuse before they measure."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aldsgd import models
from aldsgd.graphs import ring
from aldsgd.settings import Settings
from baselines.dpsgd import DPSGD
from experiments.bench import __main__ as bench
from experiments.bench import agreement, cpu, gpu, methods, network, virtual
from experiments.bench.common import Steps, plain_steps
from tests.calling import call, files

ROW = {"what": "nothing", "value": 1.0, "reference": None, "unit": "ms", "ratio": None, "bar": None, "met": None}


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Benches that measure nothing, in a folder of their own; the list says which of them began to."""
    began = []
    monkeypatch.chdir(tmp_path)
    for part in ("mixing", "scaling", "training"):
        monkeypatch.setattr(cpu, part, lambda *_: began.append("cpu") or [])
    monkeypatch.setattr(cpu, "memory", lambda: began.append("cpu") or [ROW])
    monkeypatch.setattr(network, "processes", lambda *_: began.append("network") or [])
    monkeypatch.setattr(agreement, "measure", lambda name: began.append("agreement") or [])
    monkeypatch.setattr(gpu, "ceilings", lambda *_: began.append("gpu") or ({}, 1.0))
    for part in ("training", "compression", "parts_of_topk"):
        monkeypatch.setattr(methods, part, lambda _: began.append("methods") or [])
    monkeypatch.setattr(methods, "wire", lambda: began.append("methods") or [ROW])
    run = SimpleNamespace(events=SimpleNamespace(versions=SimpleNamespace(most=1)))
    monkeypatch.setattr(virtual, "trainer", lambda _: began.append("virtual") or run)
    monkeypatch.setattr(virtual, "per_gradient", lambda *_: 1.0)
    monkeypatch.setattr(virtual, "shares", lambda *_: {})
    return began


@pytest.mark.parametrize("script, arguments, message", [
    (bench, ["--repeats", "4"], "too few for a median"),
    (bench, ["--gpu", "--quick", "--repeats", "0"], "must be 1 or more"),
    (bench, ["--repeats", "some"], "must be 1 or more"),
    (bench, ["--gpu", "--network"], "not allowed with"),
    (bench, ["--results", ""], "--results is empty"),
    (bench, ["--network", "--results", "file"], "cannot be written"),
    (bench, ["--quick", "--results", "/proc/nowhere"], "cannot be written"),
    (bench, ["--results", "taken"], "cpu.csv is a folder"),
    (gpu, ["--quick", "--workers", "0"], "must be 1 or more"),
    (gpu, ["--quick", "--batches", "2", "-1"], "must be 1 or more"),
    (gpu, ["--quick", "--results", "file"], "cannot be written"),
    (agreement, ["--results", "file"], "cannot be written"),
    (virtual, ["--rounds", "0"], "0 must be 1 or more"),
    (virtual, ["--rounds=-1"], "-1 must be 1 or more"),
])  # fmt: skip
def test_bad_input_is_one_line_before_anything_is_measured(measured, script, arguments, message):
    Path("file").touch()
    Path("taken/bench/cpu.csv").mkdir(parents=True)
    ended = call(script, *arguments)
    assert ended.refused and message in ended.err and measured == []


@pytest.mark.parametrize("script, name, arguments, folder", [
    (bench, "cpu", [], "results"), (bench, "cpu", ["--quick"], "my_results"),
    (bench, "cpu", ["--quick", "--results", "mine"], "mine"),
    (methods, "methods", [], "results"), (methods, "methods", ["--repeats", "1"], "my_results"),
    (virtual, "virtual", ["--rounds", "5"], "results"), (virtual, "virtual", ["--rounds", "1"], "my_results"),
    (virtual, "virtual", ["--rounds", "1", "--results", "mine"], "mine"),
])  # fmt: skip
def test_a_part_of_a_table_never_takes_the_place_of_the_whole_unasked(measured, script, name, arguments, folder):
    ended = call(script, *arguments)
    assert ended.code == 0 and set(measured) == {name} and f"{folder}/bench/{name}.csv" in ended.out
    assert list(files(Path())) == [f"{folder}/bench/{name}.csv"]


@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.9, "nesterov": True}])
def test_both_sides_of_a_bench_take_the_same_steps(momentum):
    """Where nothing is exchanged, each worker's model is that of torch.optim, bit for bit."""
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.randn(3, 4, 1, 8, 8, generator=draw), torch.randint(10, (3, 4), generator=draw)
    options = dict(lr=0.1, weight_decay=0.01, **momentum)

    def build():
        return models.mlp(10)

    made = []

    def optimizer(parameters):
        made.append(list(parameters))
        return torch.optim.SGD(made[-1], **options)

    ours = Steps(build, DPSGD(ring(3)), images, labels, Settings(**options), engine="loop")
    theirs = plain_steps(build, images, labels, optimizer)
    ours.network.mix = lambda *_: None
    for _ in range(3):
        ours()
        theirs()
    flat = torch.stack([torch.cat([p.detach().reshape(-1) for p in own]) for own in made])
    assert torch.equal(ours.workers.parameters, flat)
