"""Steps that a GPU replays: equal ones have equal coefficients, touch nothing of the host, and give the plain rows."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import aldsgd.stepper
from aldsgd import finite, models
from aldsgd.codecs import QSGD
from aldsgd.datasets import Data, load
from aldsgd.graphs import Rotation, line, paper_graph, paper_set
from aldsgd.leaders import ALDSGD
from aldsgd.network import LocalNetwork
from aldsgd.schedules import base, one_peer
from aldsgd.settings import Settings
from aldsgd.step import Exchange, Gossip, Step
from aldsgd.training import Trainer
from baselines.allreduce import AllReduce
from baselines.annealed import AnnealedConsensus
from baselines.choco import CHOCO
from baselines.dpsgd import DPSGD, ReleasedDPSGD
from baselines.matcha import MATCHA
from baselines.momentum_tracking import MomentumTracking
from baselines.outer_step import OuterStep
from baselines.quasi_global import QuasiGlobal
from baselines.sgp import PushSum
from baselines.single import Single
from tests.test_stacked import GPU

ALGORITHMS = {
    "single": lambda: Single(8),
    "all-reduce": lambda: AllReduce(8),
    "dpsgd": lambda: DPSGD(paper_graph(53.8)),
    "combine while adapt": lambda: DPSGD(paper_graph(53.8), form="combine_while_adapt", weights="metropolis"),
    "three graphs": lambda: DPSGD(paper_set(53.8)),
    "released": lambda: ReleasedDPSGD(paper_set(53.8, 2), Rotation(2, "released", 5)),
    "released, one graph": lambda: ReleasedDPSGD(paper_graph(100)),
    "matcha": lambda: MATCHA(paper_graph(53.8), 1.0),
    "al-dsgd": lambda: ALDSGD(DPSGD(paper_set(53.8))),
    "al-dsgd printed": lambda: ALDSGD(DPSGD(paper_graph(53.8)), order="printed", force_scale="lr", period=3),
    "al-dsgd on momentum": lambda: ALDSGD(QuasiGlobal(DPSGD(base(8, 3)))),
    "momentum tracking": lambda: MomentumTracking(DPSGD(paper_set(53.8))),
    "annealed": lambda: AnnealedConsensus(DPSGD(one_peer(8)), start=5),
    "compressed": lambda: CHOCO(DPSGD(paper_graph(53.8)), QSGD(4)),
    "push-sum": lambda: PushSum(DPSGD(paper_graph(53.8))),
    "outer step": lambda: OuterStep(ALDSGD(DPSGD(paper_graph(53.8))), "slowmo", 3),
    "al-dsgd on released": lambda: ALDSGD(ReleasedDPSGD(paper_set(53.8)), candidates="neighbours", period=2),
}


@pytest.mark.parametrize("make", ALGORITHMS.values(), ids=ALGORITHMS)
def test_equal_steps_have_equal_links_and_coefficients(make):
    algorithm, network, seen = make(), LocalNetwork(8), {}
    losses = torch.rand(8, generator=torch.Generator().manual_seed(0))
    for t in range(24):
        step = make().step(t)
        assert step == algorithm.step(t) and hash(step) == hash(algorithm.step(t))
        found = []
        for exchange in step.exchanges:
            rows = None
            if exchange.rule is not None:
                hood = network.neighbourhood(exchange.links)
                rows = exchange.rule.rows(hood, losses[hood.col] if step.losses else None, 0.1).tolist()
            found.append((exchange.links, rows))
        assert seen.setdefault(step, found) == found
    assert 0 < len(seen) <= 8


def test_steps_with_other_coefficients_are_other_steps():
    class Fading(DPSGD):
        def step(self, t):
            (exchange,) = super().step(t).after
            return Step(after=Exchange(exchange.links, Gossip(self.alphas[0] / (1 + t))))

    for algorithm in (Fading(line(3)), ALDSGD(Fading(line(3)))):
        assert algorithm.step(0) == algorithm.step(0) != algorithm.step(1)
    assert DPSGD(line(3)).step(0) == DPSGD(line(3)).step(1)


class HostData(TorchDispatchMode):
    """Lists what would make a GPU wait for the host: values read back, and tensors made from host data."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "is_nonzero", "lift_fresh", "equal", "masked_select", "item")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        by_mask = name.startswith("index") and any(
            isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8)
            for a in args
            if isinstance(a, (list, tuple))
            for i in a
        )
        # ``torch.where`` with a number makes it a tensor of the host first.
        number = name == "where" and any(tensor.ndim == 0 for tensor in tensors)
        if name in self.FORBIDDEN or by_mask or number:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_the_watch_for_host_data_can_fail():
    x = torch.rand(4)
    for function in (
        lambda: x[0].item(),
        lambda: x[x > 0.5],
        lambda: torch.where(x > 0.5, 0.0, x),
        lambda: torch.tensor(0.3),
        lambda: torch.as_tensor(0.3, dtype=torch.float64),
        lambda: bool((x > 2).any()),
    ):
        with HostData() as watch:
            function()
        assert watch.found


@pytest.mark.parametrize("engine", ["stacked", "streams"])
@pytest.mark.parametrize("make", ALGORITHMS.values(), ids=ALGORITHMS)
def test_a_step_takes_nothing_from_the_host_and_reads_nothing_back(make, engine, monkeypatch):
    monkeypatch.setattr(finite, "waits", lambda tensor: True)  # as on a GPU
    data = Data.from_arrays(
        torch.randint(256, (320, 3, 8, 8), dtype=torch.uint8), torch.arange(320) % 10,
        torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8), torch.arange(20) % 10,
    )  # fmt: skip
    build = lambda: models.build("resnet_small", 10, (3, 8, 8))  # noqa: E731
    settings = Settings(batch=4, engine=engine, augment=True)
    trainer = Trainer(make(), build, data, settings)
    stepper, steps = trainer.stepper, [trainer.algorithm.step(t) for t in range(2)]
    stepper.begin(trainer.batches.epoch(0, range(8)))
    for t, step in enumerate(steps):  # coefficients are checked when an exchange is first taken
        stepper.run(step, t)
    stepper.begin(trainer.batches.epoch(1, range(8)))
    places = [stepper.losses, stepper.position, stepper.plan.index, trainer.workers.gradients]
    pointers = [place.data_ptr() for place in places]
    with HostData() as watch:
        for t, step in enumerate(steps):
            stepper.run(step, t)
    assert watch.found == []
    stepper.begin(trainer.batches.epoch(2, range(8)))
    assert torch.equal(stepper.plan.index, trainer.batches.epoch(2, range(8)).index)
    assert [place.data_ptr() for place in places] == pointers


class Recorded:
    """A stand-in for ``Replay`` on a CPU: after the warm-up it knows only the step at which it was recorded."""

    def __init__(self, function, device, pool, warm_up=aldsgd.stepper.WARM_UP):
        self.function, self.left, self.recorded = function, warm_up, None

    def __call__(self, t):
        if self.left:
            self.left -= 1
            return self.function(t)
        self.recorded = t if self.recorded is None else self.recorded
        self.function(self.recorded)


@pytest.mark.parametrize("most", [256, 1])
@pytest.mark.parametrize("make", ALGORITHMS.values(), ids=ALGORITHMS)
def test_replayed_steps_give_the_rows_of_plain_ones(make, most, monkeypatch):
    monkeypatch.setattr(aldsgd.stepper, "Replay", Recorded)
    monkeypatch.setattr(aldsgd.stepper, "MOST_UPDATES", most)
    data = load("digits").subset(320, 50)

    def finished(replayed):
        settings = Settings(epochs=4, batch=4, lr=0.1, lr_drops=((2, 0.1),))
        trainer = Trainer(make(), lambda: models.mlp(10), data, settings)
        if replayed:
            stepper = trainer.stepper
            stepper.replayed_pass, stepper.capture_update = Recorded(stepper.gradient_pass, None, None), True
        return trainer, trainer.run().rows

    (plain, expected), (trainer, rows) = finished(False), finished(True)
    assert torch.equal(trainer.workers.parameters, plain.workers.parameters)
    assert 0 < len(trainer.stepper.updates) <= most
    for one, two in zip(rows, expected, strict=True):
        assert {k: v for k, v in one.items() if "seconds" not in k and "modelled" not in k} == {
            k: v for k, v in two.items() if "seconds" not in k and "modelled" not in k
        }
        assert one.get("modelled_communication_s") == pytest.approx(two.get("modelled_communication_s"))


@GPU
@pytest.mark.parametrize("engine", ["stacked", "streams"])
@pytest.mark.parametrize("make", ALGORITHMS.values(), ids=ALGORITHMS)
def test_gpu_captured_steps_equal_plain_ones(make, engine):
    data = load("digits").subset(320, 50)

    def finished(capture):
        settings = Settings(
            epochs=4, batch=4, lr=0.1, lr_drops=((2, 0.1),), device="cuda", engine=engine, precision="float64"
        )
        trainer = Trainer(make(), lambda: models.build("resnet_small", 10, (1, 8, 8)), data, settings)
        if not capture:
            trainer.stepper.replayed_pass, trainer.stepper.capture_update = None, False
        return trainer, trainer.run().rows

    (plain, expected), (trainer, rows) = finished(False), finished(True)
    assert trainer.stepper.replayed_pass.graph is not None and trainer.stepper.updates
    torch.testing.assert_close(trainer.workers.parameters, plain.workers.parameters, rtol=0, atol=1e-9)
    for key in ("logical_bytes", "rounds"):
        assert [row.get(key) for row in rows] == [row.get(key) for row in expected]
    assert rows[-1]["seconds_mixing"] > 0


@GPU
def test_gpu_steps_never_wait_for_the_host():
    data = load("digits").subset(640, 50)
    build = lambda: models.build("resnet_small", 10, (1, 8, 8))  # noqa: E731
    trainer = Trainer(ALDSGD(DPSGD(paper_set(53.8))), build, data, Settings(batch=4, device="cuda"))
    trainer.train_epoch(0)
    trainer.stepper.begin(trainer.batches.epoch(1, range(8)))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for t in range(20, 40):
            trainer.stepper.run(trainer.algorithm.step(t), t)
    finally:
        torch.cuda.set_sync_debug_mode("default")
