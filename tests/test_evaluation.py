"""What is tested, under which statistics of BatchNorm, and on which samples."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.transforms import functional as tvf

import aldsgd.evaluation
from aldsgd import models
from aldsgd.data import augmentation, normalise
from aldsgd.datasets import FIXED_SEED, load
from aldsgd.errors import ConfigError
from aldsgd.evaluation import Evaluator, mean_statistics
from aldsgd.records import RunStore, columns
from aldsgd.settings import Settings
from aldsgd.streams import rng
from aldsgd.tasks import CLASSIFICATION
from aldsgd.trainers import train
from aldsgd.training import Trainer
from aldsgd.workers import Workers, initial_model
from baselines.allreduce import AllReduce
from baselines.single import Single
from tests.test_training import small_digits, with_batchnorm


def test_evaluation_counts_what_a_plain_loop_counts():
    data = small_digits()
    workers = Workers(with_batchnorm, range(3), 3)
    workers.compute_gradients(torch.randn(3, 8, 1, 8, 8), torch.randint(10, (3, 8)), 0)
    found = Evaluator(data, CLASSIFICATION, "own").workers(workers, mean_statistics(workers.modules))
    losses, accuracies = found["loss"], found["accuracy"]
    for i, module in enumerate(workers.modules):
        module.eval()
        scores = module(normalise(data.test_inputs, data.mean, data.std, torch.float32))
        assert accuracies[i].item() == (scores.argmax(1) == data.test_targets).double().mean().item()
        assert losses[i].item() == pytest.approx(cross_entropy(scores, data.test_targets).item(), abs=1e-6)


def test_batchnorm_policies():
    data = small_digits()
    workers = Workers(with_batchnorm, range(3), 3)
    for step in range(3):
        workers.compute_gradients(torch.randn(3, 8, 1, 8, 8) * (1 + step), torch.randint(10, (3, 8)), step)
    stats, mean = mean_statistics(workers.modules), workers.parameters.mean(dim=0)
    own = [buffer.clone() for buffer in workers.modules[0].buffers()]
    found = {}
    for policy in ("own", "averaged", "reestimated"):
        evaluator = Evaluator(data, CLASSIFICATION, policy, bn_images=320)
        own_loss, averaged = evaluator.workers(workers, stats)["loss"], evaluator.averaged(workers, mean, stats)["loss"]
        found[policy] = own_loss.tolist(), averaged
    assert found["own"][0] == found["reestimated"][0] != found["averaged"][0]
    assert found["own"][1] == found["averaged"][1] != found["reestimated"][1]
    assert all(torch.equal(a, b) for a, b in zip(own, workers.modules[0].buffers(), strict=True))

    # By hand: the averaged model's first convolution, with the statistics of all training images at once.
    model = initial_model(with_batchnorm, 0, 0)
    nn.utils.vector_to_parameters(mean, model.parameters())
    images = normalise(data.train_inputs, data.mean, data.std, torch.float32)
    activation = model[0](images).detach()
    model[1].running_mean.copy_(activation.mean(dim=(0, 2, 3)))
    model[1].running_var.copy_(activation.var(dim=(0, 2, 3)))
    model.eval()
    scores = model(normalise(data.test_inputs, data.mean, data.std, torch.float32))
    # The cumulative average over two unequal batches differs a little from the statistics of the whole.
    assert found["reestimated"][1] == pytest.approx(cross_entropy(scores, data.test_targets).item(), rel=0.05)


def norms_of_images() -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(1, affine=False), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.ReLU(),
        nn.InstanceNorm2d(4, track_running_stats=True), nn.Flatten(), nn.Linear(144, 10), nn.BatchNorm1d(10),
    )  # fmt: skip


def slow_augmented(images, draws):
    """Padding, crop and flip of one image after another, as training does it."""
    dy, dx, flip = augmentation(draws, (len(images),))
    padded = [tvf.pad(image, 4) for image in images]
    cut = [tvf.crop(image, int(y), int(x), *images.shape[2:]) for image, y, x in zip(padded, dy, dx, strict=True)]
    return torch.stack([tvf.hflip(image) if f else image for image, f in zip(cut, flip, strict=True)])


def slow_statistics(model, data, images, parts, augmented):
    """(mean, variance) of what enters each norm, over so many batches of training images; each image counts alike."""
    chosen = torch.as_tensor(rng("fixed choice", FIXED_SEED).permutation(len(data.train_inputs))[:images])
    draws = rng("statistics", FIXED_SEED)
    layers = [m for m in model if "Norm" in type(m).__name__]
    entered = {layer: [] for layer in layers}
    handles = [layer.register_forward_pre_hook(lambda m, x: entered[m].append(x[0].detach())) for layer in layers]
    for part in np.array_split(chosen.numpy(), parts):
        batch = data.train_inputs[part]
        batch = slow_augmented(batch, draws) if augmented else batch
        model(normalise(batch, data.mean, data.std, torch.float64))
    for handle in handles:
        handle.remove()
    found = []
    for layer in layers:
        mean = var = 0.0
        for x in entered[layer]:
            axes = [axis for axis in range(x.ndim) if axis != 1]
            if "Instance" in type(layer).__name__:
                own_mean, own_var = x.mean(dim=(2, 3)).mean(dim=0), x.var(dim=(2, 3)).mean(dim=0)
            else:
                own_mean, own_var = x.mean(dim=axes), x.var(dim=axes)
            mean, var = mean + len(x) / images * own_mean, var + len(x) / images * own_var
        found.append((mean, var))
    return layers, found


@pytest.mark.parametrize("augmented", [True, False], ids=["augmented training", "plain training"])
@pytest.mark.parametrize("policy", ["augmented", "reestimated"])
@pytest.mark.parametrize(("images", "parts"), [(257, 3), (300, 3), (90, 1)])
def test_statistics_estimated_anew_are_those_of_images_as_in_training(policy, augmented, images, parts, monkeypatch):
    monkeypatch.setattr(aldsgd.evaluation, "STATISTICS_BATCH", 100)
    data = small_digits()
    workers = Workers(norms_of_images, range(3), 3, precision="float64")
    workers.compute_gradients(torch.randn(3, 8, 1, 8, 8).double(), torch.randint(10, (3, 8)), 0)
    before = [[buffer.clone() for buffer in module.buffers()] for module in workers.modules]
    mean, stats = workers.parameters.mean(dim=0), mean_statistics(workers.modules)
    evaluator = Evaluator(data, CLASSIFICATION, policy, images, augmented)
    found = evaluator.averaged(workers, mean, stats)

    model = initial_model(norms_of_images, 0, 0).double()
    nn.utils.vector_to_parameters(mean, model.parameters())
    layers, expected = slow_statistics(model, data, images, parts, augmented and policy == "augmented")
    for layer, (own_mean, own_var) in zip(layers, expected, strict=True):
        layer.running_mean.copy_(own_mean)
        layer.running_var.copy_(own_var)
    model.eval()
    scores = model(normalise(data.test_inputs, data.mean, data.std, torch.float64))
    assert found["loss"] == pytest.approx(cross_entropy(scores, data.test_targets).item(), abs=1e-10)
    assert found["accuracy"] == (scores.argmax(1) == data.test_targets).double().mean().item()
    for module, kept in zip(workers.modules, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(module.buffers(), kept, strict=True)), "the workers keep their own"
    assert workers.modules[0][0].momentum == 0.1 and workers.modules[0][2].momentum is None


def test_statistics_of_a_layer_used_twice_are_the_mean_of_both_uses(monkeypatch):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(1, affine=False), nn.Linear(64, 10)

        def forward(self, x):
            return self.head((self.norm(x) + self.norm(3 * x + 1)).flatten(1))

    monkeypatch.setattr(aldsgd.evaluation, "STATISTICS_BATCH", 100)
    data = small_digits()
    workers = Workers(Twice, range(2), 2, precision="float64")
    mean, stats = workers.parameters.mean(dim=0), mean_statistics(workers.modules)
    found = Evaluator(data, CLASSIFICATION, "augmented", 250).averaged(workers, mean, stats)
    model = Twice().double()
    nn.utils.vector_to_parameters(mean, model.parameters())
    chosen = rng("fixed choice", FIXED_SEED).permutation(320)[:250]
    x = normalise(data.train_inputs[chosen], data.mean, data.std, torch.float64)
    uses = [use for part in x.tensor_split(3) for use in (part, 3 * part + 1)]
    model.norm.running_mean.fill_(sum(len(use) * use.mean() for use in uses) / 500)
    model.norm.running_var.fill_(sum(len(use) * use.var() for use in uses) / 500)
    scores = model.eval()(normalise(data.test_inputs, data.mean, data.std, torch.float64))
    assert found["loss"] == pytest.approx(cross_entropy(scores, data.test_targets).item(), abs=1e-10)
    assert not workers.modules[0].norm._forward_pre_hooks and workers.modules[0].norm.momentum == 0.1


@pytest.mark.parametrize("policy", ["augmented", "reestimated"])
@pytest.mark.parametrize("images", [1, 2, 257])
def test_any_number_of_training_images_is_enough(policy, images):
    data = load("digits").subset(images, 50)
    result = train(Single(1), lambda: models.build("cnn", 10, (1, 8, 8)), data, epochs=1, batchnorm=policy, batch=4)
    assert 0 <= result.final["averaged_accuracy"] <= 1


@pytest.mark.parametrize("policy", ["augmented", "reestimated", "own"])
def test_statistics_that_training_leaves_alone_are_not_estimated_anew(policy):
    def build():
        model = with_batchnorm()
        model[1].eval()
        model[1].running_mean.fill_(0.3)
        return model

    data = small_digits()
    result = train(AllReduce(2), build, data, epochs=1, batchnorm=policy, lr=0.05)
    norms = [module[1] for module in result.workers.modules]
    assert all(not norm.training and bool((norm.running_mean == 0.3).all()) for norm in norms)
    worker = next(row for row in result.rows if row["worker"] == 0)
    assert result.final["averaged_loss"] == pytest.approx(worker["test_loss"], abs=1e-5)


def test_the_default_is_statistics_as_in_training():
    assert Settings().batchnorm == "augmented"
    data = load("digits").subset(400, 100)
    finals = {
        policy: train(Single(2), with_batchnorm, data, epochs=1, lr=0.05, augment=True, batchnorm=policy).final
        for policy in ("augmented", "reestimated")
    }
    assert (
        train(Single(2), with_batchnorm, data, epochs=1, lr=0.05, augment=True).final["averaged_loss"]
        == (finals["augmented"]["averaged_loss"])
    )
    assert finals["augmented"]["averaged_loss"] != finals["reestimated"]["averaged_loss"]
    assert finals["augmented"]["train_loss"] == finals["reestimated"]["train_loss"]


def test_fresh_statistics_of_a_worker_are_those_of_the_averaged_model_that_it_alone_would_be():
    """With one worker the averaged model is that worker; with three each is tested as if it were alone."""
    data = small_digits()
    workers = Workers(with_batchnorm, range(3), 3)
    workers.compute_gradients(torch.randn(3, 8, 1, 8, 8), torch.randint(10, (3, 8)), 0)
    stats, before = mean_statistics(workers.modules), [m.state_dict() for m in workers.modules]
    before = [{name: value.clone() for name, value in kept.items()} for kept in before]
    found = Evaluator(data, CLASSIFICATION, "fresh", 320, True).workers(workers, stats)
    alone = Evaluator(data, CLASSIFICATION, "augmented", 320, True)
    for i, row in enumerate(workers.parameters):
        expected = alone.averaged(workers, row, stats)
        assert found["loss"][i].item() == pytest.approx(expected["loss"], abs=1e-6)
        assert found["accuracy"][i].item() == expected["accuracy"]
    own = Evaluator(data, CLASSIFICATION, "own").workers(workers, stats)
    assert (own["loss"] != found["loss"]).all()
    for module, kept in zip(workers.modules, before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())


def test_further_policies_have_columns_of_their_own_at_the_last_test(tmp_path):
    data = load("digits").subset(400, 100)
    options = dict(epochs=2, lr=0.05, augment=True)
    with_others = train(Single(3), with_batchnorm, data, also=("own", "fresh"), **options)
    single = {
        policy: train(Single(3), with_batchnorm, data, batchnorm=policy, **options) for policy in ("own", "fresh")
    }
    plain = train(Single(3), with_batchnorm, data, **options)
    clocks = {name for name in plain.final if name.startswith("seconds")}
    for row, before in zip(with_others.rows, plain.rows, strict=True):
        assert {k: v for k, v in row.items() if k in before.keys() - clocks} == {
            k: v for k, v in before.items() if k not in clocks
        }
    for policy, result in single.items():
        for row, alone in zip(with_others.rows, result.rows, strict=True):
            own = {k.removeprefix(f"{policy}_"): v for k, v in row.items() if k.startswith(f"{policy}_")}
            assert row["epoch"] == 2 or not own
            assert own == ({k: alone[k] for k in own} if own else {})
    names = columns(("accuracy",), ("own", "fresh"))
    assert set(with_others.final) | {"worker"} <= set(names) and "fresh_test_loss" in names
    config = {"dataset": "digits", "method": "single", "workers": 3, "also": ["own", "fresh"]}
    with RunStore(tmp_path).writer(config, {}, ("accuracy",), ("own", "fresh")) as writer:
        writer.append(with_others.rows)
        run = writer.finish()
    assert run.final["fresh_worst_accuracy"] == with_others.final["fresh_worst_accuracy"]
    assert run.metrics == ("accuracy",)
    assert "fresh_test_accuracy" in run.workers and "fresh_test_accuracy" not in run.network
    assert run.workers["own_test_loss"].notna().sum() == 3  # of the last test alone


@pytest.mark.parametrize("also", [("augmented",), ("own", "own"), ("plain",), "own"])
def test_further_policies_are_different_ones(also):
    with pytest.raises(ConfigError, match="also = .* must be different ones of: own, averaged, reestimated, fresh"):
        Settings(also=also)


def test_tests_before_the_last_take_a_balanced_part_of_the_samples():
    data = load("digits").subset(400, 360)
    trainer = Trainer(Single(2), with_batchnorm, data, Settings(epochs=3, lr=0.05, interim_images=50))
    part = Evaluator(data.subset(test_limit=50), CLASSIFICATION)
    whole, seen = Evaluator(data, CLASSIFICATION), []

    def look(rows):
        stats = mean_statistics(trainer.workers.modules)
        evaluator = whole if rows[-1]["epoch"] == 3 else part
        seen.append(rows[-1]["mean_accuracy"] == evaluator.workers(trainer.workers, stats)["accuracy"].mean().item())

    trainer.run(on_record=look)
    assert seen == [True, True, True]
    counts = np.bincount(trainer.interim.data.test_targets, minlength=10)
    assert counts.sum() == 50 and counts.min() == counts.max() == 5
    for bad in (0, -3, 2.5):
        with pytest.raises(ConfigError, match="interim_images"):
            Settings(interim_images=bad)


def test_held_out_samples_are_balanced_and_never_trained_on():
    data = load("digits")
    held = data.held_out(200)
    counts = np.bincount(held.test_targets, minlength=10)
    assert len(held.test_targets) == 200 and counts.min() == counts.max() == 20
    assert len(held.train_targets) == len(data.train_targets) - 200
    rows = {x.numpy().tobytes() for x in held.test_inputs}
    assert rows <= {x.numpy().tobytes() for x in data.train_inputs}
    together = sorted(x.numpy().tobytes() for part in (held.train_inputs, held.test_inputs) for x in part)
    assert together == sorted(x.numpy().tobytes() for x in data.train_inputs)
    assert torch.equal(data.held_out(200).test_inputs, held.test_inputs)
    for count in (0, -1, len(data.train_targets), 1.5):
        with pytest.raises(ConfigError, match="held out"):
            data.held_out(count)


def test_a_subset_can_follow_from_a_seed():
    data = load("digits")
    chosen = [data.subset(100, 50, seed) for seed in (None, 0, 1)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(chosen[a].train_inputs, chosen[b].train_inputs)
        assert not torch.equal(chosen[a].test_inputs, chosen[b].test_inputs)
    assert torch.equal(data.subset(100, 50, 1).train_inputs, chosen[2].train_inputs)
    assert all(np.bincount(part.train_targets).tolist() == [10] * 10 for part in chosen)
