"""Workers, evaluation and the loop: one run against plain PyTorch, and what may not depend on how it is hosted."""

import csv
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from aldsgd import models
from aldsgd.data import Batches, normalise, split, steps_per_epoch
from aldsgd.datasets import Data, load
from aldsgd.errors import ConfigError
from aldsgd.graphs import paper_graph, ring
from aldsgd.leaders import ALDSGD
from aldsgd.links import AllReduce as Ring
from aldsgd.links import Link, Pairs
from aldsgd.records import CLOCK_COLUMNS
from aldsgd.settings import Settings
from aldsgd.trainers import train
from aldsgd.training import Trainer
from aldsgd.workers import Workers, initial_model
from baselines.allreduce import AllReduce
from baselines.dpsgd import DPSGD, ReleasedDPSGD
from baselines.matcha import MATCHA
from baselines.single import Single
from tests import reference


def small_digits() -> Data:
    return load("digits").subset(320, 100)


def digits_mlp() -> nn.Module:
    return models.mlp(10, (1, 8, 8))


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))


def with_batchnorm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


def rows_without_clocks(result) -> str:
    out = io.StringIO()
    for row in result.rows:
        csv.writer(out).writerow([(k, repr(v)) for k, v in row.items() if k not in CLOCK_COLUMNS])
    return out.getvalue()


def test_a_run_equals_plain_pytorch_workers_in_a_loop():
    data, n, batch, lr, decay = small_digits(), 8, 8, 0.1, 5e-4
    graph = paper_graph(84.6)
    settings = Settings(epochs=2, batch=batch, lr=lr, weight_decay=decay, seed=3, precision="float64")
    trainer = Trainer(ALDSGD(DPSGD(graph)), digits_mlp, data, settings)
    trainer.run()

    modules = [initial_model(digits_mlp, 3, i).double() for i in range(n)]
    shards, K = split(data.train_targets, n, "iid", 3), steps_per_epoch(320, n, batch)
    alpha = trainer.algorithm.core.alphas[0]
    for epoch in range(2):
        index = Batches(shards, batch, K, 3).epoch(epoch, range(n)).index
        for k in range(K):
            losses, stepped = [], []
            for i, module in enumerate(modules):
                optimizer = torch.optim.SGD(module.parameters(), lr=lr, weight_decay=decay)
                optimizer.zero_grad()
                images = normalise(data.train_inputs[index[i, k]], data.mean, data.std, torch.float64)
                loss = cross_entropy(module(images), data.train_targets[index[i, k]])
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                stepped.append(nn.utils.parameters_to_vector(module.parameters()).detach().numpy())
            zero = np.zeros_like(stepped)
            mixed = reference.released_step(
                np.array(stepped), zero, np.array(losses), graph.matchings, alpha, 0.0, 0.3, 0.1, 0.2, 0.2
            )
            for module, vector in zip(modules, mixed, strict=True):
                nn.utils.vector_to_parameters(torch.tensor(vector), module.parameters())
    expected = np.stack([nn.utils.parameters_to_vector(m.parameters()).detach().numpy() for m in modules])
    np.testing.assert_allclose(trainer.workers.parameters.numpy(), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("build", [digits_mlp, with_batchnorm, with_dropout])
@pytest.mark.parametrize(
    "algorithm",
    [
        lambda: ALDSGD(DPSGD(paper_graph(53.8))),
        lambda: MATCHA(paper_graph(53.8), seed=1),
        lambda: DPSGD(paper_graph(53.8), form="combine_while_adapt"),
    ],
)
def test_same_seed_same_rows_bit_for_bit(build, algorithm):
    data = small_digits()
    one, two, other = (
        rows_without_clocks(train(algorithm(), build, data, epochs=2, seed=seed, lr=0.1)) for seed in (5, 5, 6)
    )
    assert one == two
    assert one != other


def test_the_global_random_stream_is_left_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    train(Single(2), with_dropout, small_digits(), epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_vmap_and_loop_engines_agree():
    data = small_digits()
    runs = [
        train(ALDSGD(DPSGD(ring(8))), digits_mlp, data, epochs=2, lr=0.1, precision="float64", engine=engine)
        for engine in ("loop", "vmap")
    ]
    torch.testing.assert_close(runs[0].workers.parameters, runs[1].workers.parameters, rtol=0, atol=1e-12)
    assert runs[0].rows[0]["test_accuracy"] == runs[1].rows[0]["test_accuracy"]


def test_engine_is_chosen_by_the_layers_and_says_why():
    assert Workers(digits_mlp, range(2), 2).engine == "vmap"
    workers = Workers(with_batchnorm, range(2), 2)
    assert workers.engine == "loop" and "Conv2d" in workers.engine_reason
    with pytest.raises(ConfigError, match="Dropout"):
        Workers(with_dropout, range(2), 2, engine="vmap")


def test_a_worker_does_not_depend_on_who_else_is_hosted():
    everyone, some = Workers(with_dropout, range(6), 6, seed=2), Workers(with_dropout, (4, 1), 6, seed=2)
    torch.testing.assert_close(some.parameters, everyone.parameters[[4, 1]], rtol=0, atol=0)
    images, labels = torch.randn(6, 5, 64), torch.randint(10, (6, 5))
    everyone.compute_gradients(images, labels, step=9)
    some.compute_gradients(images[[4, 1]], labels[[4, 1]], step=9)
    torch.testing.assert_close(some.gradients, everyone.gradients[[4, 1]], rtol=0, atol=0)


def test_starts():
    different, same, mean = (Workers(digits_mlp, range(4), 4, seed=1, start=s) for s in ("different", "same", "mean"))
    assert not torch.equal(different.parameters[0], different.parameters[1])
    assert torch.equal(same.parameters, different.parameters[:1].expand(4, -1))
    torch.testing.assert_close(mean.parameters[2], different.parameters.mean(dim=0))
    assert torch.equal(mean.parameters[0], mean.parameters[3])


def test_modules_are_views_and_any_module_works():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.frozen = nn.Linear(6, 6), nn.Linear(6, 6)
            self.second = nn.Linear(6, 6)
            self.second.weight = self.first.weight
            self.frozen.requires_grad_(False)

        def forward(self, x):
            return self.second(self.frozen(torch.relu(self.first(x))))

    workers = Workers(Tied, range(3), 3)
    assert workers.parameters.shape == (3, 6 * 6 + 6 + 6)
    workers.parameters.fill_(0.5)
    assert all(bool((p == 0.5).all()) for p in workers.modules[1].first.parameters())
    assert not bool((workers.modules[1].frozen.weight == 0.5).any())
    workers.compute_gradients(torch.randn(3, 4, 6), torch.randint(6, (3, 4)), 0)
    expected = torch.cat([p.grad.reshape(-1) for p in workers.modules[2].parameters() if p.requires_grad])
    assert bool((expected != 0).any()) and torch.equal(workers.gradients[2], expected)


def test_learning_rate_schedule_and_rates_per_worker():
    data = small_digits()
    trainer = Trainer(Single(4), digits_mlp, data, Settings(lr=0.4, lr_drops=((2, 0.1), (5, 0.5)), epochs=1))
    rates = []
    for _ in range(6 * trainer.steps):
        rates.append(trainer.local.lr)
        trainer.local.next()
    assert rates[:: trainer.steps] == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.04, 0.02])
    assert rates == [rates[t - t % trainer.steps] for t in range(len(rates))]
    rates = (0.0, 0.1, 0.2, 0.4)
    start = Workers(digits_mlp, range(4), 4).parameters
    moved = train(Single(4), digits_mlp, data, epochs=1, lr=rates).workers.parameters
    assert torch.equal(moved[0], start[0]) and not torch.equal(moved[1], start[1])
    with pytest.raises(ConfigError, match="3 learning rates for 4 workers"):
        Trainer(Single(4), digits_mlp, data, Settings(lr=(0.1, 0.2, 0.3)))


def test_records_of_an_epoch_fit_each_other():
    result = train(ALDSGD(DPSGD(ring(8))), digits_mlp, small_digits(), epochs=3, eval_every=2, lr=0.1)
    assert [(r["epoch"], r["worker"]) for r in result.rows if r["worker"] in (0, None)] == [
        (2, 0), (2, None), (3, 0), (3, None),
    ]  # fmt: skip
    workers = [r["test_accuracy"] for r in result.rows if r["epoch"] == 3 and r["worker"] is not None]
    final = result.final
    assert final["worst_accuracy"] == min(workers) and final["best_accuracy"] == max(workers)
    assert final["mean_accuracy"] == pytest.approx(sum(workers) / 8)
    X = result.workers.parameters.double().numpy()
    assert final["consensus_distance"] == pytest.approx(((X - X.mean(axis=0)) ** 2).sum() / 8, rel=1e-9)


def test_logical_bytes_and_modelled_time_are_counted_from_the_schedule():
    data, P, steps = small_digits(), 64 * 128 + 128 + 128 * 10 + 10, 3  # 320 samples, 8 workers, batch 16
    link = Link(latency=1e-3, bandwidth=1e6)

    def final(algorithm, **settings):
        return train(algorithm, digits_mlp, data, epochs=1, link=link, compute_seconds=0.5, **settings).final

    plain = final(DPSGD(ring(8)))
    assert plain["logical_bytes"] == steps * 16 * 4 * P and plain["rounds"] == steps
    assert plain["modelled_communication_s"] == pytest.approx(steps * 2 * (1e-3 + 4 * P / 1e6))
    assert plain["modelled_compute_s"] == 0.5 * steps
    released = final(ALDSGD(DPSGD(ring(8))))
    assert released["logical_bytes"] == steps * 16 * (4 * P + 4)
    printed = final(ALDSGD(DPSGD(ring(8)), order="printed"))
    assert printed["logical_bytes"] == steps * 16 * (8 * P + 4) and printed["rounds"] == 2 * steps
    assert final(AllReduce(8))["logical_bytes"] == steps * 14 * 4 * P
    assert final(Single(8))["logical_bytes"] == 0
    assert final(ReleasedDPSGD(ring(8)))["logical_bytes"] == steps * 8 * 4 * P
    assert Pairs(()).cost(100, link) == (0, 0)
    assert Ring(4).cost(100, Link(1.0, 100.0)) == (600, 6 * (1 + 0.25))


def test_all_reduce_agrees_exactly():
    assert train(AllReduce(5), digits_mlp, small_digits(), epochs=1).final["consensus_distance"] == 0


def test_a_diverged_run_is_recorded_as_such():
    with pytest.warns(UserWarning, match="the run diverged: a loss was 10000 or more, or no number, at step"):
        result = train(ALDSGD(DPSGD(ring(4))), digits_mlp, small_digits(), epochs=2, lr=1e12)
    assert not np.isfinite(result.final["train_loss"])
    assert 0 <= result.final["worst_accuracy"] <= 1


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(epochs=0), "epochs = 0"),
        (dict(lr=float("nan")), "lr = nan"),
        (dict(precision="int8"), "float32, float64"),
        (dict(start="warm"), "different, same, mean"),
        (dict(batchnorm="none"), "own, averaged, augmented, reestimated"),
        (dict(optimizer="lion"), "sgd, adam, adamw"),
        (dict(device="gpu"), "device"),
        (dict(bn_images=1), "bn_images"),
        (dict(engine="fast"), "auto, loop, vmap"),
        (dict(split="dirichlet"), "alpha"),
        (dict(seed=-1), "seed = -1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        train(Single(2), digits_mlp, small_digits(), **settings)


def test_features_are_not_augmented():
    features = Data.from_arrays(torch.randn(64, 64), torch.arange(64) % 10, torch.randn(9, 64), torch.arange(9))
    with pytest.raises(ConfigError, match="leave it out"):
        train(Single(2), digits_mlp, features, augment=True)


def test_models_that_cannot_be_exchanged_are_refused():
    with pytest.raises(ConfigError, match="no trainable parameters"):
        Workers(nn.Flatten, range(2), 2)
    with pytest.raises(ConfigError, match="more workers|320"):
        train(Single(400), digits_mlp, small_digits())


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", None, 3.5])
def test_devices_that_are_not_there_are_refused(device):
    with pytest.raises(ConfigError, match="device") as caught:
        train(Single(2), digits_mlp, small_digits(), device=device)
    assert "\n" not in str(caught.value)


def test_shards_can_have_a_seed_of_their_own():
    data = small_digits()

    def shards(**settings):
        trainer = Trainer(Single(4), digits_mlp, data, Settings(split="dirichlet", dirichlet_alpha=1.0, **settings))
        return [shard.tolist() for shard in trainer.batches.shards], trainer.workers.parameters.clone()

    one, other, apart = shards(seed=1), shards(seed=2), shards(seed=2, split_seed=1)
    assert one[0] == apart[0] != other[0]
    assert torch.equal(other[1], apart[1]) and not torch.equal(one[1], apart[1])
    for bad in (-1, 1.5, True, 2**32):
        with pytest.raises(ConfigError, match="split_seed"):
            Settings(split_seed=bad)
