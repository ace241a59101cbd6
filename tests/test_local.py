"""The local rule: any optimizer under any method, against plain transcriptions and against optimizers of their own."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from aldsgd import train
from aldsgd.datasets import load
from aldsgd.errors import ConfigError
from aldsgd.graphs import paper_graph
from aldsgd.leaders import ALDSGD
from aldsgd.local import LocalRule, factor
from aldsgd.network import LocalNetwork
from aldsgd.settings import Settings
from aldsgd.training import Trainer
from aldsgd.workers import initial_model
from baselines.dpsgd import DPSGD
from baselines.matcha import MATCHA
from baselines.single import Single
from tests import reference
from tests.stepping import rule, state_of, take

GRAPH, STEPS, LR = paper_graph(84.6), 30, 0.07
C = dict(c1=0.3, c2=0.1, p1=0.2, p2=0.15)


class Moves:
    """Plain transcriptions of local rules: one worker, one number after another."""

    def __init__(self, optimizer: str):
        self.optimizer, self.m, self.v, self.t = optimizer, 0.0, 0.0, 0

    def __call__(self, x, g, lr):
        self.t += 1
        if self.optimizer == "nesterov":
            self.m = 0.9 * self.m + g
            return x - lr * (g + 0.9 * self.m)
        if self.optimizer == "momentum":
            self.m = 0.9 * self.m + g
            return x - lr * self.m
        if self.optimizer == "adamw":
            x = x - lr * 0.01 * x
        self.m, self.v = 0.8 * self.m + 0.2 * g, 0.95 * self.v + 0.05 * g * g
        m, v = self.m / (1 - 0.8**self.t), self.v / (1 - 0.95**self.t)
        return x - lr * m / (np.sqrt(v) + 1e-8)


def test_plain_sgd_on_a_cpu_is_that_of_torch_bit_for_bit():
    """Its first step goes through torch's own, those after it add -lr g."""
    settings = Settings(lr=0.3, epochs=4, lr_drops=((1, 0.1), (3, 0.5)))
    ours, theirs = torch.zeros(2, 50), torch.zeros(2, 50)
    local = LocalRule(ours, [0, 1], settings, steps=3)
    plain = torch.optim.SGD([theirs], lr=0.3)
    schedule = torch.optim.lr_scheduler.LambdaLR(plain, lambda t: factor(settings, 3, t))
    for t in range(12):
        direction = torch.randn(2, 50, generator=torch.Generator().manual_seed(t))
        local(direction)
        local.next()
        theirs.grad = direction
        plain.step()
        schedule.step()
        assert torch.equal(ours, theirs), t
    local(direction, acting=[1])
    assert torch.equal(ours[0], theirs[0]) and not torch.equal(ours[1], theirs[1])


SETTINGS = {
    "momentum": dict(momentum=0.9),
    "nesterov": dict(momentum=0.9, nesterov=True),
    "adam": dict(optimizer="adam", betas=(0.8, 0.95)),
    "adamw": dict(optimizer="adamw", betas=(0.8, 0.95), weight_decay=0.01),
}
METHODS = {
    "dpsgd": lambda: DPSGD(GRAPH),
    "dpsgd_cwa": lambda: DPSGD(GRAPH, form="combine_while_adapt"),
    "matcha": lambda: MATCHA(GRAPH, 0.5, seed=1),
    "released": lambda: ALDSGD(MATCHA(GRAPH, 0.5, seed=1), **C),
    "printed": lambda: ALDSGD(DPSGD(GRAPH), order="printed", force_scale="lr", **C),
}


def slow_step(name, x, grads, losses, matchings, alpha, moves, lr):
    n = len(x)
    if name == "dpsgd_cwa":
        return np.stack([moves[i](reference.gossip_of(i, matchings, x, alpha), grads[i], lr) for i in range(n)])
    if name == "printed":
        x = np.stack(
            [
                x[i] - lr * C["p1"] * (x[i] - x[b]) - lr * C["p2"] * (x[i] - x[m])
                for i in range(n)
                for b, m in [reference.leaders_of(i, matchings, losses)]
            ]
        )
    y = np.stack([moves[i](x[i], grads[i], lr) for i in range(n)])
    if name in ("dpsgd", "matcha"):
        return np.stack([reference.gossip_of(i, matchings, y, alpha) for i in range(n)])
    p1, p2 = (C["p1"], C["p2"]) if name == "released" else (0.0, 0.0)
    zero = np.zeros_like(y)
    return reference.released_step(y, zero, losses, matchings, alpha, 0.0, C["c1"], C["c2"], p1, p2)


@pytest.mark.parametrize("optimizer", list(SETTINGS))
@pytest.mark.parametrize("name", list(METHODS))
def test_methods_with_every_optimizer_equal_the_transcription(name, optimizer):
    algorithm, network = METHODS[name](), LocalNetwork(8)
    core = getattr(algorithm, "core", algorithm)
    rng = np.random.default_rng(0)
    x, goal = rng.normal(size=(8, 5)), rng.normal(size=(8, 5))
    fast = torch.tensor(x)
    state, local = state_of(algorithm, fast), rule(fast, network, LR, **SETTINGS[optimizer])
    moves = [Moves(optimizer) for _ in range(8)]
    for t in range(STEPS):
        matchings = core.step(t).links.matchings
        alpha = core.solutions[0].alpha if isinstance(core, MATCHA) else core.alphas[0]
        losses = np.abs(x - goal).sum(axis=1)
        grads = x - goal + 0.1 * rng.normal(size=x.shape)
        take(algorithm, t, network, fast, torch.tensor(grads), LR, torch.tensor(losses), state, local)
        x = slow_step(name, x, grads, losses, matchings, alpha, moves, LR)
        np.testing.assert_allclose(fast.numpy(), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rates", [0.05, tuple(0.01 * k for k in range(1, 9))])
@pytest.mark.parametrize("settings", [dict(), *SETTINGS.values()], ids=["sgd", *SETTINGS])
def test_without_exchange_workers_are_torchs_own_optimizers_bit_for_bit(settings, rates):
    data = load("digits").subset(256, 50)

    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    settings = dict(epochs=3, batch=8, lr=rates, engine="loop", seed=3, schedule="cosine", warmup=0.5) | settings
    trainer = Trainer(Single(8), build, data, Settings(**settings))
    plain = Settings(**settings)
    batches = []
    fetch = trainer.stepper.fetch

    def fetched(*where):
        batches.append(fetch(*where))
        return batches[-1]

    trainer.stepper.fetch = fetched
    trainer.run()
    for i in range(8):
        module = initial_model(build, 3, i)
        lr = rates[i] if isinstance(rates, tuple) else rates
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[plain.optimizer]
        own = (
            dict(momentum=plain.momentum, nesterov=plain.nesterov)
            if plain.optimizer == "sgd"
            else dict(betas=plain.betas)
        )
        optimizer = kind(module.parameters(), lr=lr, weight_decay=plain.weight_decay, **own)
        for t, (inputs, targets) in enumerate(batches):
            optimizer.param_groups[0]["lr"] = lr * factor(plain, trainer.steps, t)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(inputs[i]), targets[i]).backward()
            optimizer.step()
        expected = nn.utils.parameters_to_vector(module.parameters())
        assert torch.equal(trainer.workers.parameters[i], expected), i


def test_rates_follow_the_named_schedules():
    steps = Settings(epochs=4, lr_drops=((1, 0.5), (3, 0.1)))
    assert [factor(steps, 10, t) for t in (0, 9, 10, 29, 30)] == [1, 1, 0.5, 0.5, 0.05]
    warm = Settings(epochs=4, schedule="constant", warmup=0.5)
    assert [factor(warm, 10, t) for t in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    cosine = Settings(epochs=4, schedule="cosine")
    assert factor(cosine, 10, 0) == 1 and factor(cosine, 10, 20) == pytest.approx(0.5)
    assert factor(cosine, 10, 39) == pytest.approx((1 + math.cos(math.pi * 39 / 40)) / 2)


@pytest.mark.parametrize(
    "schedule, per, expected",
    [
        (lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2], 0.5), "epoch", [1, 1, 1, 1, 1, 1, 0.5, 0.5]),
        (lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5), "step", [0.5**k for k in range(8)]),
    ],
)
def test_any_scheduler_of_torch_sets_the_rates(schedule, per, expected):
    x = torch.zeros(2, 3)
    local = LocalRule(x, range(2), Settings(lr=1.0, schedule=schedule, schedule_per=per), steps=3)
    found = []
    for _ in range(8):
        found.append(local.lr)
        local(torch.ones(2, 3))
        local.next()
    assert found == pytest.approx(expected)
    again = LocalRule(x, range(2), Settings(lr=1.0, schedule=schedule, schedule_per=per), steps=3)
    again.restore([local.saved(i) for i in range(2)], 8)
    assert again.lr == local.lr


def test_any_optimizer_of_torch_moves_the_workers():
    data = load("digits").subset(256, 50)
    result = train(
        DPSGD(paper_graph(100)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        data,
        epochs=5,
        lr=0.01,
        optimizer=lambda groups, lr: torch.optim.RMSprop(groups, lr=lr, momentum=0.5),
    )
    assert result.final["mean_accuracy"] > 0.5


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_who_does_not_act_keeps_model_and_optimizer(settings):
    """Workers 0 and 2 act at even steps only: the same as two rules, each of which sees its own steps alone."""
    rng = np.random.default_rng(1)
    x = torch.tensor(rng.normal(size=(4, 6)))
    apart = [x[i : i + 1].clone() for i in range(4)]
    make = Settings(lr=0.1, schedule="constant", **settings)
    local = LocalRule(x, range(4), make, steps=100)
    rules = [LocalRule(row, range(1), make, steps=100) for row in apart]
    for t in range(12):
        direction = torch.tensor(rng.normal(size=(4, 6)))
        acting = [1, 3] if t % 2 else [0, 1, 2, 3]
        local(direction, None if t % 2 == 0 else acting)
        for i in acting:
            rules[i](direction[i : i + 1])
    np.testing.assert_array_equal(x, torch.cat(apart))


@pytest.mark.parametrize("settings", [dict(), *SETTINGS.values()], ids=["sgd", *SETTINGS])
@pytest.mark.parametrize("apart", [False, True])
def test_the_state_goes_on_where_it_was_kept(settings, apart):
    rng = np.random.default_rng(2)
    x = torch.tensor(rng.normal(size=(3, 4)))
    make = Settings(lr=0.1, schedule="cosine", epochs=2, **settings)
    local = LocalRule(x, range(3), make, steps=10)
    directions = torch.tensor(rng.normal(size=(20, 3, 4)))
    for t in range(20):
        if t == 11:
            kept, models = [{k: v.clone() for k, v in local.saved(i).items()} for i in range(3)], x.clone()
        local(directions[t], [0, 2] if apart and t == 4 else None)
        local.next()
    again = LocalRule(models, range(3), make, steps=10)
    again.restore(kept, 11)
    for t in range(11, 20):
        again(directions[t])
        again.next()
    assert torch.equal(models, x)


@pytest.mark.parametrize(
    "bad, message",
    [
        (dict(optimizer="lion"), "sgd, adam, adamw"),
        (dict(schedule="linear"), "steps, cosine, constant"),
        (dict(momentum=1.0), "momentum = 1.0"),
        (dict(momentum=math.nan), "momentum"),
        (dict(nesterov=True), "nesterov needs a momentum"),
        (dict(betas=(0.9,)), "betas"),
        (dict(betas=(0.9, 1.0)), "betas"),
        (dict(warmup=-1), "warmup"),
        (dict(schedule_per="day"), "schedule_per"),
        (dict(lr=math.nan), "lr"),
        (dict(lr="fast"), "lr"),
        (dict(lr=(0.1, math.inf)), "lr"),
        (dict(weight_decay=-1), "weight_decay"),
        (dict(lr_drops=((0, -1),)), "lr_drops"),
        (dict(lr_drops=((0.5, 0.1),)), "lr_drops"),
        (dict(epochs=2.5), "epochs"),
        (dict(epochs=10**12), "epochs"),
        (dict(batch=0), "batch"),
        (dict(seed=2**32), "seed"),
        (dict(precision="float8"), "precision"),
        (dict(compute_seconds=math.nan), "compute_seconds"),
        (dict(optimizer=lambda groups, lr: None), "optimizer"),
        (dict(optimizer=lambda groups, lr: torch.optim.LBFGS(groups[0]["params"], lr=lr)), "optimizer"),
        (dict(schedule=lambda optimizer: torch.optim.lr_scheduler.CyclicLR(optimizer, 1.0)), "schedule"),
    ],
)
def test_settings_that_make_no_sense_are_one_sentence(bad, message):
    with pytest.raises(ConfigError, match=message) as caught:
        LocalRule(torch.zeros(2, 3), range(2), Settings(**bad), steps=3)
    assert "\n" not in str(caught.value)
