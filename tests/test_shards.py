"""Which samples a worker sees, and when: shards, walks over them, augmentation."""

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as tvf

from aldsgd.data import Batches, augment, checked_shards, normalise, split, steps_per_epoch
from aldsgd.errors import ConfigError

# ---- shards ----


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_split_is_a_partition(data):
    n = data.draw(st.integers(1, 12))
    size = data.draw(st.integers(n, 150))
    labels = np.array(data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)))
    kind = data.draw(st.sampled_from(["iid", "label", "dirichlet"]))
    alpha = data.draw(st.floats(0.2, 20)) if kind == "dirichlet" else None
    min_size = data.draw(st.integers(1, size // n))
    try:
        shards = split(torch.from_numpy(labels), n, kind, data.draw(st.integers(0, 99)), alpha, min_size)
    except ConfigError:
        assert kind == "dirichlet"
        reject()
    assert len(shards) == n
    assert all(shard.dtype == np.int64 and len(shard) >= min_size for shard in shards)
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(size))
    if kind != "dirichlet":
        assert max(map(len, shards)) - min(map(len, shards)) <= 1
    if kind == "label":
        assert np.all(np.diff(labels[np.concatenate(shards)]) >= 0)


@pytest.mark.parametrize(("kind", "alpha"), [("iid", None), ("label", None), ("dirichlet", 0.5)])
def test_a_split_depends_on_the_seed_only(kind, alpha):
    labels = np.repeat(np.arange(10), 30)

    def flat(seed):
        return np.concatenate(split(labels, 8, kind, seed, alpha)).tolist()

    assert flat(3) == flat(3) != flat(4)
    members = np.array([i for i in flat(3) if labels[i] == 2])
    assert not np.all(np.diff(members) > 0), "samples of one class are dealt in their order in the file"


def test_dirichlet_shares_have_the_variance_of_the_distribution():
    n, alpha, classes, each = 4, 0.5, 300, 200
    labels = np.tile(np.arange(classes), each)
    shards = split(labels, n, "dirichlet", seed=7, alpha=alpha)
    shares = np.stack([np.bincount(labels[shard], minlength=classes) for shard in shards]) / each
    assert np.allclose(shares.sum(0), 1)
    assert np.allclose(shares.mean(1), 1 / n, atol=0.05)
    expected = (1 / n) * (1 - 1 / n) / (n * alpha + 1)
    assert shares.var() == pytest.approx(expected, rel=0.1)


def test_dirichlet_is_redrawn_for_the_minimum_size_and_gives_up_in_the_end():
    labels = np.repeat(np.arange(10), 20)
    without = split(labels, 8, "dirichlet", seed=0, alpha=0.1)
    assert min(map(len, without)) < 8
    assert min(map(len, split(labels, 8, "dirichlet", seed=0, alpha=0.1, min_size=8))) >= 8
    with pytest.raises(ConfigError, match="larger alpha"):
        split(labels, 8, "dirichlet", alpha=0.01, min_size=25)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(n=11), "fewer workers"),
        (dict(n=0), "at least 1"),
        (dict(n=3, min_size=4), "from 1 to 3"),
        (dict(n=3, min_size=0), "from 1 to 3"),
        (dict(n=3, kind="random"), "iid, dirichlet, label"),
        (dict(n=3, kind="dirichlet"), "alpha"),
        (dict(n=3, kind="dirichlet", alpha=0.0), "alpha"),
        (dict(n=3, kind="dirichlet", alpha="0.5"), "alpha"),
        (dict(n=2.5), "whole number"),
        (dict(n=None), "whole number"),
        (dict(n=3, min_size=1.5), "whole number"),
        (dict(n=3, kind="dirichlet", alpha=float("nan")), "alpha"),
        (dict(n=3, kind="iid", alpha=0.5), "leave it out"),
    ],
)
def test_impossible_splits(arguments, words):
    with pytest.raises(ConfigError, match=words):
        split(np.arange(10) % 2, **arguments)


# ---- batches ----


@pytest.mark.parametrize(("samples", "n", "b", "steps"), [(50_000, 8, 16, 391), (128, 8, 16, 1), (129, 8, 16, 2)])
def test_steps_per_epoch(samples, n, b, steps):
    assert steps_per_epoch(samples, n, b) == steps


@pytest.mark.parametrize("n, b", [(0, 16), (-1, 16), (8, 0), (2.5, 16), (8, None)])
def test_steps_of_no_workers_or_samples_are_refused(n, b):
    with pytest.raises(ConfigError, match="must be"):
        steps_per_epoch(100, n, b)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 40), batch=st.integers(1, 9), steps=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_pass_over_a_shard_shows_each_sample_once(size, batch, steps, seed):
    shard = np.random.default_rng(seed).permutation(1000)[:size]
    batches = Batches([np.arange(3), shard], batch, steps, seed)
    epochs = 2 + 2 * size // (batch * steps)
    walk = np.concatenate([batches.epoch(e, [1]).index.numpy().ravel() for e in range(epochs)])
    passes = [walk[i : i + size] for i in range(0, len(walk), size)]
    assert len(passes) >= 2
    for one in passes[:-1]:
        assert sorted(one) == sorted(shard)
    assert len(set(passes[-1])) == len(passes[-1]) and set(passes[-1]) <= set(shard)


def test_passes_workers_seeds_and_epochs_draw_differently():
    shards = [np.arange(50), np.arange(50)]
    plan = Batches(shards, 10, 10, 0, augment=True).epoch(0, [0, 1])
    order = plan.index.view(2, 2, 50)
    later = Batches(shards, 10, 10, 0, augment=True).epoch(1, [0, 1])
    other = Batches(shards, 10, 10, 1, augment=True).epoch(0, [0, 1])
    assert not torch.equal(order[0, 0], order[0, 1])
    for name in ("index", "dy", "dx", "flip"):
        draws = getattr(plan, name)
        assert not torch.equal(draws[0], draws[1])
        assert not torch.equal(draws, getattr(later, name))
        assert not torch.equal(draws, getattr(other, name))
    assert not torch.equal(plan.dy, plan.dx)


def test_a_stream_does_not_depend_on_who_else_is_asked_for_or_when():
    shards = split(np.zeros(103), 5, "iid", seed=1)
    batches = Batches(shards, 7, 4, seed=3, augment=True)
    everyone = [batches.epoch(e, range(5)) for e in range(4)]
    for e in (3, 0, 2, 2, 1):
        for workers in ([4], [2, 0], [1, 3, 4]):
            plan = Batches(shards, 7, 4, seed=3, augment=True).epoch(e, workers)
            again = batches.epoch(e, workers)
            for name in ("index", "dy", "dx", "flip"):
                expected = getattr(everyone[e], name)[workers]
                assert torch.equal(getattr(plan, name), expected)
                assert torch.equal(getattr(again, name), expected)


def test_plans_have_the_promised_shapes_types_and_ranges():
    plan = Batches([np.arange(9)] * 3, 16, 20, 0, augment=True, pad=2).epoch(0, [2, 0])
    assert plan.index.shape == plan.dy.shape == plan.dx.shape == plan.flip.shape == (2, 20, 16)
    assert plan.index.dtype == plan.dy.dtype == plan.dx.dtype == torch.int64 and plan.flip.dtype == torch.bool
    assert plan.dy.unique().tolist() == plan.dx.unique().tolist() == [0, 1, 2, 3, 4]
    assert plan.flip.float().mean().item() == pytest.approx(0.5, abs=0.08)
    plain = Batches([np.arange(9)] * 3, 16, 20, 0).epoch(0, [2, 0])
    assert torch.equal(plain.index, plan.index)
    assert plain.dy is plain.dx is plain.flip is None


@pytest.mark.parametrize(
    ("shards", "batch", "steps", "seed", "words"),
    [
        ([[0], []], 1, 1, 0, "worker 1"),
        ([[0]], 0, 1, 0, "batch 0"),
        ([[0]], 1, 0, 0, "steps"),
        ([[0]], 1, 1, -1, "seed"),
    ],
)
def test_impossible_batches(shards, batch, steps, seed, words):
    with pytest.raises(ConfigError, match=words):
        Batches(shards, batch, steps, seed)


# ---- pixels ----


@settings(max_examples=40, deadline=None)
@given(
    b=st.integers(1, 6),
    shape=st.tuples(st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9)),
    pad=st.integers(0, 4),
    seed=st.integers(0, 999),
)
def test_augment_is_torchvisions_pad_crop_and_flip(b, shape, pad, seed):
    g = torch.Generator().manual_seed(seed)
    images = torch.randint(1, 256, (b, *shape), dtype=torch.uint8, generator=g)
    dy, dx = torch.randint(2 * pad + 1, (2, b), generator=g)
    flip = torch.rand(b, generator=g) < 0.5
    expected = []
    for i in range(b):
        one = tvf.crop(tvf.pad(images[i], pad), int(dy[i]), int(dx[i]), *shape[1:])
        expected.append(tvf.hflip(one) if flip[i] else one)
    result = augment(images, dy, dx, flip, pad)
    assert result.dtype == torch.uint8
    assert torch.equal(result, torch.stack(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalise_is_torchvisions(dtype):
    images = torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = [0.49, 0.48, 0.45], [0.20, 0.19, 0.21]
    expected = torch.stack([tvf.normalize(image.double() / 255, mean, std) for image in images])
    before = images.clone()
    result = normalise(images, torch.tensor(mean), torch.tensor(std), dtype)
    assert result.dtype == dtype and torch.equal(images, before)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-6)
    nested = normalise(images.view(5, 1, 3, 4, 4), torch.tensor(mean), torch.tensor(std), dtype)
    assert torch.equal(nested[:, 0], result)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert normalise(images, None, None).max() <= 1


def test_normalise_leaves_features_alone():
    x = torch.randn(4, 2, 3, 3)
    before = x.clone()
    assert torch.equal(normalise(x, None, None), x)
    moved = normalise(x, torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(moved[:, 1], (x[:, 1] - 2) / 4)
    assert torch.equal(x, before)


@pytest.mark.parametrize("kind", ["label", "dirichlet"])
@pytest.mark.parametrize("targets", [np.zeros(12), np.zeros((12, 2)), np.zeros((12, 3), int)])
def test_splits_by_label_need_labels(kind, targets):
    with pytest.raises(ConfigError, match="use iid or unequal"):
        split(targets, 3, kind, alpha=1.0 if kind == "dirichlet" else None)
    assert sum(map(len, split(targets, 3))) == 12


# ---- a user's own shards ----


def test_own_shards_are_taken_as_they_are():
    shards = checked_shards([[3, 1], torch.tensor([0]), np.array([7, 4, 5], np.uint8)], 8, 3)
    assert [shard.tolist() for shard in shards] == [[3, 1], [0], [7, 4, 5]]
    assert all(shard.dtype == np.int64 for shard in shards)


@pytest.mark.parametrize(
    ("shards", "words"),
    [
        ([[0], [1]], "2 shards for 3 workers"),
        ([[0], [1], []], "worker 2 is no list"),
        ([[0], [1], [0.5]], "worker 2 is no list"),
        ([[0], [1], [True, False]], "worker 2 is no list"),
        ([[0], [1], [[2, 3]]], "worker 2 is no list"),
        ([[0], [1], [[2], [3, 4]]], "worker 2 is no list"),
        ([[0], [1], None], "worker 2 is no list"),
        ([[0], [1], "ab"], "worker 2 is no list"),
        ([[0], [1], [8]], "outside 0..7"),
        ([[0], [1], [-1]], "outside 0..7"),
        ([[0], [1], [2, 1]], "twice"),
        ([[0], [1], [2, 2]], "twice"),
        (iter([[0], [1], [2]]), "give a name or a list"),
        (5, "give a name or a list"),
        (None, "give a name or a list"),
    ],
)
def test_shards_that_are_none(shards, words):
    with pytest.raises(ConfigError, match=words):
        checked_shards(shards, 8, 3)
