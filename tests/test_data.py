"""Data: shards, walks over them, augmentation, and the loaders on tiny sets in every layout."""

import hashlib
import io
import os
import pickle
import struct
import zlib
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import datasets as tv
from torchvision.transforms import functional as tvf

from aldsgd import image_files
from aldsgd.data import Batches, augment, checked_shards, normalise, split, steps_per_epoch
from aldsgd.datasets import Data, load
from aldsgd.differences import label_noise
from aldsgd.errors import ConfigError
from aldsgd.own_files import CONTEXT


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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


# ---- Data ----


def arrays(train=40, test=20, classes=4, shape=(3, 4, 5), seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.integers(0, 256, (train, *shape), dtype=np.uint8), np.arange(train) % classes,
        rng.integers(0, 256, (test, *shape), dtype=np.uint8), np.arange(test) % classes,
    ]  # fmt: skip


def test_from_arrays_takes_numpy_and_tensors_and_computes_channel_statistics():
    parts = arrays()
    data = Data.from_arrays(*parts)
    assert (data.outputs, data.shape, data.name) == (4, (3, 4, 5), "custom")
    assert data.train_inputs.dtype == torch.uint8 and data.train_targets.dtype == torch.int64
    pixels = parts[0] / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.std, pixels.std((0, 2, 3)), rtol=1e-6)
    same = Data.from_arrays(*map(torch.from_numpy, parts))
    assert torch.equal(same.train_inputs, data.train_inputs) and torch.equal(same.mean, data.mean)
    moved = data.to("meta")
    assert moved.train_inputs.device.type == moved.test_targets.device.type == moved.mean.device.type == "meta"
    assert data.train_inputs.device.type == "cpu" and moved.outputs == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_from_arrays_keeps_float_features(dtype):
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(dtype)
    x.flags.writeable = False
    data = Data.from_arrays(x, [0, 1, 2, 0, 1, 2], x[::-1], [0, 1, 2, 0, 1, 2], classes=9)
    assert data.mean is data.std is None
    assert (data.outputs, data.shape) == (9, (5,))
    np.testing.assert_array_equal(data.train_inputs.numpy(), x)
    np.testing.assert_array_equal(data.test_inputs.numpy(), x[::-1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(train_inputs=np.zeros((40, 3, 4, 6), np.uint8)), "same shape"),
        (dict(train_inputs=np.zeros((40, 3, 4, 5), np.float32)), "same shape and type"),
        (dict(train_inputs=np.zeros((40, 3, 4, 5), np.int64)), "integers of shape"),
        (dict(train_inputs=np.zeros((40, 3, 4, 5), bool)), "uint8 pixels"),
        (dict(train_inputs=np.zeros((40, 5), complex)), "real numbers"),
        (dict(train_inputs=torch.zeros(40, 5, dtype=torch.complex64)), "real numbers"),
        (dict(train_inputs=torch.zeros(40, 5).to_sparse()), "dense"),
        (dict(train_inputs=[[1.0, 2.0], [3.0]]), "samples of one shape"),
        (dict(train_inputs=7), "no samples"),
        (dict(train_inputs="images.npy"), "type <U10"),
        (dict(train_inputs=None), "type object"),
        (dict(train_inputs=np.zeros((40, 4, 5), np.uint8)), "N, C, H, W"),
        (dict(train_inputs=np.zeros((40, 32, 32, 3), np.uint8)), "channels last"),
        (dict(train_inputs=np.full((40, 3), np.nan)), "not finite"),
        (dict(train_inputs=np.zeros((0, 3, 4, 5), np.uint8)), "no samples"),
        (dict(train_targets=np.zeros(39, int)), "one per sample"),
        (dict(train_targets=np.zeros(40)), "float64 .* but test targets int64"),
        (dict(train_targets=np.full(40, np.nan), test_targets=np.zeros(20)), "not finite"),
        (dict(train_targets=np.zeros((40, 0)), test_targets=np.zeros((20, 0))), "one per sample"),
        (
            dict(train_targets=np.zeros(40), test_targets=np.zeros(20), classes=4),
            "floating-point numbers: give integers",
        ),
        (dict(train_targets=np.full(40, -1)), "integers"),
        (dict(train_targets=np.full(40, 2**63, np.uint64)), "integers"),
        (dict(train_targets=np.zeros(40, bool), test_targets=np.zeros(20, bool)), "integers"),
        (dict(train_targets=np.full(40, "cat")), "<U3"),
        (dict(train_targets=np.full(40, None)), "object"),
        (dict(train_targets=np.zeros((40, 1), int)), "one per sample"),
        (dict(train_targets=3), "one per sample"),
        (dict(train_targets=np.full(40, 10**7), classes=10**8), "100,000,000 classes"),
        (dict(test_targets=np.full(20, 4)), "label 4 is seen in the test set only"),
        (dict(classes=2.5), "whole number"),
        (dict(mean="bright", std=[0.5] * 3), "mean"),
        (dict(test_targets=np.full(20, 4), classes=4), "label 4"),
        (dict(mean=[0.5] * 3), "both or neither"),
        (dict(mean=[0.5] * 2, std=[0.5] * 2), "per channel"),
        (dict(mean=[0.5] * 3, std=[0.5, 0.0, 0.5]), "above zero"),
    ],
)
def test_from_arrays_refuses_what_does_not_fit(change, words):
    parts = dict(zip(("train_inputs", "train_targets", "test_inputs", "test_targets"), arrays(), strict=True))
    with pytest.raises(ConfigError, match=words) as caught:
        Data.from_arrays(**(parts | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", ">u2", ">i4", ">u8"])
def test_labels_of_any_integer_type_are_the_same_labels(dtype):
    parts = arrays()
    expected = Data.from_arrays(*parts)
    same = Data.from_arrays(parts[0], parts[1].astype(dtype), parts[2], parts[3].astype(dtype), classes=np.int16(4))
    assert torch.equal(same.train_targets, expected.train_targets) and same.train_targets.dtype == torch.int64
    assert same.outputs == expected.outputs == 4 and same.task == "classification"


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int32])
def test_labels_of_torchs_newer_types(dtype):
    parts = arrays()
    labels = [torch.from_numpy(parts[i]).to(dtype) for i in (1, 3)]
    data = Data.from_arrays(parts[0], labels[0], parts[2], labels[1])
    assert data.train_targets.tolist() == parts[1].tolist() and data.train_targets.dtype == torch.int64


@pytest.mark.parametrize("dtype", [">f4", ">f8", "f2", "longdouble"])
def test_floats_of_any_kind_keep_their_values(dtype):
    x = (np.arange(40) / 8).reshape(10, 4).astype(dtype)
    data = Data.from_arrays(x, np.arange(10) % 3, x, np.arange(10) % 3)
    np.testing.assert_array_equal(data.train_inputs.double(), x.astype(float))


def test_tokens_that_would_fill_the_memory_are_refused():
    with pytest.raises(ConfigError, match="number them from 0"):
        Data.from_arrays(np.full((4, 3), 10**9), np.arange(4) % 2, np.zeros((4, 3), int), np.arange(4) % 2)


# ---- the kinds of task ----


class Pairs(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def test_torch_datasets_are_read_into_memory():
    parts = arrays()
    data = Data.from_dataset(
        *(Pairs([(torch.from_numpy(x), int(y)) for x, y in zip(*p, strict=True)]) for p in (parts[:2], parts[2:]))
    )
    expected = Data.from_arrays(*parts)
    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets", "mean", "std"):
        assert torch.equal(getattr(data, name), getattr(expected, name))
    assert (data.task, data.outputs) == ("classification", 4)
    values = Data.from_dataset(*[Pairs([(torch.randn(3), torch.randn(2)) for _ in range(5)])] * 2, name="two")
    assert (values.task, values.outputs, values.name) == ("regression", 2, "two")


class Failing(Pairs):
    def __getitem__(self, i):
        raise FileNotFoundError("no\nfile")


@pytest.mark.parametrize(
    "broken",
    [
        Pairs([]),
        Pairs([(torch.zeros(2), 0), (torch.zeros(3), 1)]),
        Pairs([(torch.zeros(2), 0, "extra")]),
        Pairs([torch.zeros(2)]),
        Pairs([(torch.zeros(2), "cat")]),
        Pairs([(Image.new("RGB", (4, 4)), "cat")]),
        Failing([1]),
        iter([(torch.zeros(2), 0)]),
        None,
    ],
)
def test_datasets_that_cannot_be_read_are_refused_in_one_sentence(broken):
    good = Pairs([(torch.zeros(2), 0), (torch.ones(2), 1)])
    for pair in ((good, broken), (broken, good)):
        with pytest.raises(ConfigError, match="add a transform|no samples") as caught:
            Data.from_dataset(*pair)
        assert "\n" not in str(caught.value)


def test_kinds_of_targets_are_kinds_of_task():
    tokens, features = np.arange(24).reshape(6, 4) % 5, np.random.default_rng(0).normal(size=(6, 3))
    for inputs, targets, task, outputs, vocabulary, shape in (
        (features, np.arange(6) % 3, "classification", 3, None, (6,)),
        (features, np.arange(6) / 3, "regression", 1, None, (6, 1)),
        (features, features, "regression", 3, None, (6, 3)),
        (tokens, np.arange(6) % 2, "classification", 2, 5, (6,)),
        (tokens, tokens, "tokens", 5, 5, (6, 4)),
        (tokens.astype("i1"), features[:, 0], "regression", 1, 5, (6, 1)),
    ):
        data = Data.from_arrays(inputs, targets, inputs, targets)
        assert (data.task, data.outputs, data.vocabulary) == (task, outputs, vocabulary)
        assert data.train_targets.shape == shape
    with pytest.raises(ConfigError, match="one per sample"):
        Data.from_arrays(tokens, tokens[:, :3], tokens, tokens[:, :3])


def test_subsets_of_values_and_texts_are_fixed_ordered_and_nested():
    x = np.arange(90.0)[:, None]
    for targets in (x / 7, np.arange(90)[:, None] % 4):
        inputs = x if targets.dtype.kind == "f" else np.arange(90)[:, None]
        data = Data.from_arrays(inputs, targets, inputs, targets)
        chosen = {limit: data.subset(limit, 5).train_inputs.flatten().tolist() for limit in (3, 20, 89)}
        assert all(len(c) == limit and c == sorted(c) for limit, c in chosen.items())
        assert set(chosen[3]) < set(chosen[20]) < set(chosen[89])
        assert torch.equal(data.subset(20).train_targets[:, 0], data.train_targets[[int(i) for i in chosen[20]], 0])
        assert len(data.subset(20, 5).test_targets) == 5


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


# ---- texts ----


def test_a_text_is_cut_into_windows_that_predict_the_next_characters(tmp_path):
    text = "".join(np.random.default_rng(0).choice(list("abcdé\n"), 3000))
    letters = sorted(set(text))

    def words(codes):
        return "".join(letters[i] for i in codes.flatten().tolist())

    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "t.txt").write_bytes(text.encode(encoding))
        data = load(f"text:{tmp_path / 't.txt'}")
        assert (data.task, data.outputs, data.vocabulary, data.shape) == ("tokens", 6, 6, (CONTEXT,))
        train, test = words(data.train_inputs), words(data.test_inputs)
        assert text.startswith(train) and len(train) > 2600
        assert text[2700:].startswith(test) and len(test) >= CONTEXT
        assert text[1:].startswith(words(data.train_targets)) and text[2701:].startswith(words(data.test_targets))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 characters"),
        (b"short", "5 characters"),
        (b"a" * 5000, "repeats one character"),
        (bytes(range(256)) * 20, "UTF-8"),
        ("zwei".encode("utf-16") * 1000, "UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_texts_that_cannot_be_learnt(tmp_path, content, words):
    path = tmp_path / "t.txt"
    if content is not None:
        path.write_bytes(content)
    damaged(tmp_path, f"text:{path}", words, "t.txt")


def test_a_text_that_is_a_folder_or_has_no_name(tmp_path):
    damaged(tmp_path, f"text:{tmp_path}", "cannot be read")
    damaged(tmp_path, "text:", "cannot be read")


def test_subset_is_balanced_fixed_ordered_and_nested():
    parts = arrays(train=90, test=30, classes=9)
    parts[1] = np.sort(parts[1])
    parts[0][:, 0, 0, 0] = np.arange(90)
    data = Data.from_arrays(*parts)
    chosen = {}
    for limit in (4, 18, 31, 89):
        small = data.subset(limit, 10)
        assert len(small.train_inputs) == len(small.train_targets) == limit and len(small.test_targets) == 10
        counts = np.bincount(small.train_targets, minlength=9)
        assert counts.max() - counts.min() <= 1
        where = small.train_inputs[:, 0, 0, 0].tolist()
        assert where == sorted(where) and small.train_targets.tolist() == (np.array(where) // 10).tolist()
        chosen[limit] = set(where)
        assert torch.equal(small.train_inputs, data.subset(limit).train_inputs)
    assert chosen[4] < chosen[18] < chosen[31] < chosen[89]
    assert torch.equal(data.subset(90, None).train_inputs, data.train_inputs)
    assert len(data.subset(1000, 3).train_targets) == 90
    assert torch.equal(data.subset(4).mean, data.mean)
    with pytest.raises(ConfigError, match="leaves nothing"):
        data.subset(0)
    for limit in (2.5, "10", float("nan")):
        with pytest.raises(ConfigError, match="limit of test samples must be a whole number"):
            data.subset(None, limit)


@pytest.mark.parametrize(
    ("noisy", "share", "words"),
    [
        (1.5, 0.5, "whole number"),
        (3, 0.5, "noisy_workers = 3 of 2"),
        (-1, 0.5, "noisy_workers = -1"),
        (1, 1.1, "label_noise = 1.1"),
        (1, float("nan"), "label_noise = nan"),
        (1, "half", "label_noise = half"),
    ],
)
def test_label_noise_that_makes_no_sense(noisy, share, words):
    with pytest.raises(ConfigError, match=words):
        label_noise(Data.from_arrays(*arrays()), [np.arange(20), np.arange(20, 40)], noisy, share, 0)


# ---- loaders ----


def test_digits_are_a_fixed_stratified_part_of_scikit_learns():
    from sklearn.datasets import load_digits

    data, again = load("digits"), load("digits", root="nowhere")
    assert (data.shape, data.outputs, data.train_inputs.dtype) == ((1, 8, 8), 10, torch.uint8)
    assert torch.equal(data.train_inputs, again.train_inputs)
    pixels, labels = load_digits(return_X_y=True)
    for c in range(10):
        test, train = int((data.test_targets == c).sum()), int((data.train_targets == c).sum())
        assert train + test == (labels == c).sum()
        assert abs(test - 0.2 * (train + test)) <= 0.5
    both = torch.cat([data.train_inputs, data.test_inputs]).flatten(1).numpy()
    tagged = np.column_stack([both, torch.cat([data.train_targets, data.test_targets])])
    original = np.column_stack([np.round(pixels / 16 * 255), labels])
    assert sorted(map(tuple, tagged)) == sorted(map(tuple, original.astype(int)))


def write_folders(root, name, size, channels, classes=10, train=3, test=2):
    """A tiny set of image folders; returns the pixels by path relative to the set's folder."""
    rng = np.random.default_rng(0)
    pixels = {}
    for part, count in (("train", train), ("test", test)):
        for c in range(classes):
            folder = root / name / part / f"{'abcdefghij'[c]} class"
            folder.mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 256, (size, size, channels), dtype=np.uint8)
                path = folder / f"{i}.png"
                Image.fromarray(image.squeeze()).save(path)
                pixels[path.relative_to(root / name).as_posix()] = image.transpose(2, 0, 1)
    return pixels


@pytest.fixture
def cifar_folders(tmp_path):
    return tmp_path, write_folders(tmp_path, "cifar10", 32, 3)


@pytest.mark.parametrize(("name", "size", "channels"), [("cifar10", 32, 3), ("fashionmnist", 28, 1)])
def test_image_folders_give_the_pixels_and_alphabetical_labels(tmp_path, monkeypatch, name, size, channels):
    pixels = write_folders(tmp_path, name, size, channels)
    (tmp_path / name / "train" / "a class" / "notes.txt").write_text("no image")
    (tmp_path / name / "train" / ".hidden").mkdir()
    monkeypatch.setenv("ALDSGD_DATA", str(tmp_path))
    data = load(name)
    for part, images, labels in (
        ("train", data.train_inputs, data.train_targets),
        ("test", data.test_inputs, data.test_targets),
    ):
        paths = sorted(path for path in pixels if path.startswith(part + "/"))
        assert labels.tolist() == ["abcdefghij".index(path.split("/")[1][0]) for path in paths]
        np.testing.assert_array_equal(images, np.stack([pixels[path] for path in paths]))
    assert data.outputs == 10 and len(data.mean) == len(data.std) == channels
    assert data.name == name


def test_decoded_images_are_cached_until_the_folder_changes(cifar_folders, own_cache, monkeypatch):
    root, _ = cifar_folders
    decoded = []
    decode = image_files._decode
    monkeypatch.setattr(image_files, "_decode", lambda paths, shape: decoded.append(1) or decode(paths, shape))
    first, second = load("cifar10", root), load("cifar10", str(root))
    assert len(decoded) == 2
    assert torch.equal(first.train_inputs, second.train_inputs)
    assert torch.equal(first.test_targets, second.test_targets)

    path = root / "cifar10" / "train" / "a class" / "0.png"
    Image.new("RGB", (32, 32), (9, 8, 7)).save(path)
    assert load("cifar10", root).train_inputs[0, :, 0, 0].tolist() == [9, 8, 7]
    assert len(decoded) == 4
    assert [file.suffix for file in (own_cache / "decoded").iterdir()] == [".npz"]


def test_the_cache_is_keyed_by_every_file(cifar_folders):
    root, _ = cifar_folders
    one, two = (root / "cifar10" / "train" / "a class" / f"{i}.png" for i in (0, 1))
    before = load("cifar10", root).train_inputs
    contents = one.read_bytes(), two.read_bytes()
    times = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in (one, two)]

    def place(pair):
        for path, content, time in zip((one, two), pair, times, strict=True):
            path.write_bytes(content)
            os.utime(path, ns=time)

    place(contents[::-1])  # the sum of sizes stays, and each file's time
    swapped = load("cifar10", root).train_inputs
    assert torch.equal(swapped[[1, 0]], before[[0, 1]]) and torch.equal(swapped[2:], before[2:])

    longer = io.BytesIO()
    Image.new("RGB", (32, 32), (1, 2, 3)).save(longer, "PNG")
    place((longer.getvalue(), contents[1]))
    assert load("cifar10", root).train_inputs[0, :, 5, 5].tolist() == [1, 2, 3]
    same_size = bytearray(longer.getvalue())
    other = io.BytesIO()
    Image.new("RGB", (32, 32), (3, 2, 1)).save(other, "PNG")
    assert len(other.getvalue()) == len(same_size), "one colour packs like another"
    place((other.getvalue(), contents[1]))
    assert load("cifar10", root).train_inputs[0, :, 5, 5].tolist() == [3, 2, 1]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign"])
def test_a_damaged_cache_file_is_made_again(cifar_folders, own_cache, damage):
    root, _ = cifar_folders
    whole = load("cifar10", root)
    (cached,) = (own_cache / "decoded").iterdir()
    content = bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 255
    cached.write_bytes(
        {"cut": bytes(content[: len(content) // 2]), "flip": bytes(content), "empty": b"", "foreign": b"x" * 99}[damage]
    )
    assert torch.equal(load("cifar10", root).train_inputs, whole.train_inputs)
    with np.load(cached) as stored:
        np.testing.assert_array_equal(stored["train_inputs"], whole.train_inputs)


def test_an_unwritable_cache_only_warns(cifar_folders, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="not kept"):
        assert len(load("cifar10", tmp_path).train_targets) == 30


def damaged(root, name, *words, **options):
    with pytest.raises(ConfigError) as caught:
        load(name, root, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message


def crc(size, png):
    """Check sum of a PNG header that says ``size`` x ``size``."""
    return struct.pack(">I", zlib.crc32(png[12:16] + struct.pack(">II", size, size) + png[24:29]))


def test_damaged_image_folders_are_named(cifar_folders):
    root, _ = cifar_folders
    path = root / "cifar10" / "test" / "c class" / "1.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    damaged(root, "cifar10", path, "no readable image")
    path.write_bytes(b"")
    damaged(root, "cifar10", path, "no readable image")
    Image.new("RGB", (32, 31)).save(path)
    damaged(root, "cifar10", path, "32x31")
    for size in (10_000, 30_000):  # by its header alone: a warning and an error of the reader's
        path.write_bytes(whole[:16] + struct.pack(">II", size, size) + whole[24:29] + crc(size, whole) + whole[33:])
        damaged(root, "cifar10", path, "replace it")
    path.unlink()
    path.symlink_to(root / "nowhere.png")
    damaged(root, "cifar10", path, "remove the link")
    path.unlink()
    path.write_bytes(whole)
    load("cifar10", root)

    (root / "cifar10" / "test" / "c class").rename(root / "cifar10" / "test" / "k class")
    damaged(root, "cifar10", "c class", "equal names")
    for image in (root / "cifar10" / "test" / "k class").iterdir():
        image.unlink()
    damaged(root, "cifar10", root / "cifar10" / "test", "9 class folders")
    (root / "cifar10" / "train").rename(root / "cifar10" / "other")
    damaged(root, "cifar10", root / "cifar10" / "train")


def write_idx(root, train=20, test=10, classes=10, size=(28, 28)):
    """A tiny Fashion-MNIST in torchvision's layout; returns train images, train labels, and those of the test."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    parts = arrays(train, test, classes, size)
    for i, file in enumerate(("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")):
        x = parts[i].astype(np.uint8)
        head = struct.pack(f">BBBB{x.ndim}I", 0, 0, 8, x.ndim, *x.shape)
        (raw / f"{file}-ubyte").write_bytes(head + x.tobytes())
    return parts


def test_torchvisions_fashion_mnist_layout_comes_first(tmp_path):
    parts = write_idx(tmp_path)
    write_folders(tmp_path, "fashionmnist", 28, 1)
    data = load("fashionmnist", tmp_path)
    np.testing.assert_array_equal(data.train_inputs, parts[0][:, None])
    np.testing.assert_array_equal(data.train_targets, parts[1])
    np.testing.assert_array_equal(data.test_inputs, parts[2][:, None])
    np.testing.assert_array_equal(data.test_targets, parts[3])
    assert data.mean.tolist() == pytest.approx([0.2860]) and data.std.tolist() == pytest.approx([0.3530])


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", ["cut", "long", "empty", "head", "gone"])
def test_damaged_idx_files_are_named(tmp_path, file, damage):
    write_idx(tmp_path)
    path = tmp_path / "FashionMNIST" / "raw" / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        changed = {"cut": content[:-1], "long": content + b"\0", "empty": b"", "head": b"\1" + content[1:]}
        path.write_bytes(changed[damage])
    damaged(tmp_path, "fashionmnist", path, "--download")


def test_idx_files_that_do_not_belong_together(tmp_path):
    write_idx(tmp_path / "a")
    write_idx(tmp_path / "b", train=30)
    name = "FashionMNIST/raw/train-labels-idx1-ubyte"
    (tmp_path / "b" / name).replace(tmp_path / "a" / name)
    damaged(tmp_path / "a", "fashionmnist", "20 train images but 30 train labels")
    write_idx(tmp_path / "c", classes=9)
    damaged(tmp_path / "c", "fashionmnist", "9 classes")
    write_idx(tmp_path / "d", size=(28, 27))
    damaged(tmp_path / "d", "fashionmnist", "(1, 28, 27)", "(1, 28, 28)")


def write_cifar(root, monkeypatch, name):
    """A tiny CIFAR in torchvision's layout, whose MD5 sums torchvision is made to expect."""
    dataset = {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}[name]
    classes = {"cifar10": 10, "cifar100": 100}[name]
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)

    def write(file, content):
        raw = pickle.dumps(content)
        (folder / file).write_bytes(raw)
        return [file, hashlib.md5(raw).hexdigest()]

    rng = np.random.default_rng(0)
    expected, lists = {}, {"train_list": [], "test_list": []}
    for part in lists:
        for file, _ in getattr(dataset, part):
            pixels = rng.integers(0, 256, (classes, 3072), dtype=np.uint8)
            labels = rng.permutation(classes).tolist()
            lists[part].append(write(file, {"data": pixels, "fine_labels" if classes > 10 else "labels": labels}))
            expected.setdefault(part, []).append((pixels.reshape(-1, 3, 32, 32), labels))
    meta = write(dataset.meta["filename"], {dataset.meta["key"]: [str(c) for c in range(classes)]})
    for part in lists:
        monkeypatch.setattr(dataset, part, lists[part])
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": meta[1]})
    return folder, {part: [np.concatenate(x) for x in zip(*files, strict=True)] for part, files in expected.items()}


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_torchvisions_cifar_layout(tmp_path, monkeypatch, name):
    folder, expected = write_cifar(tmp_path, monkeypatch, name)
    data = load(name, tmp_path)
    np.testing.assert_array_equal(data.train_inputs, expected["train_list"][0])
    np.testing.assert_array_equal(data.train_targets, expected["train_list"][1])
    np.testing.assert_array_equal(data.test_inputs, expected["test_list"][0])
    np.testing.assert_array_equal(data.test_targets, expected["test_list"][1])
    assert data.train_inputs.is_contiguous()

    file = folder / ("data_batch_3" if name == "cifar10" else "train")
    file.write_bytes(file.read_bytes()[:-1])
    damaged(tmp_path, name, file, "MD5", "--download")
    file.unlink()
    damaged(tmp_path, name, file, "missing")


@pytest.mark.parametrize("name", ["fashionmnist", "cifar10", "cifar100"])
def test_missing_data_says_where_it_looked_and_how_to_get_it(tmp_path, monkeypatch, name):
    damaged(tmp_path, name, tmp_path, "torchvision", "--download", f"{name}/train", "--data", "$ALDSGD_DATA")
    monkeypatch.setenv("ALDSGD_DATA", str(tmp_path / "elsewhere"))
    damaged(None, name, tmp_path / "elsewhere")
    monkeypatch.delenv("ALDSGD_DATA")
    monkeypatch.chdir(tmp_path)
    damaged(None, name, tmp_path / "data")


def test_unknown_names_list_the_known_ones(tmp_path):
    damaged(tmp_path, "imagenet", "digits, mnist, svhn, fashionmnist, cifar10, cifar100, text:PATH, folder:PATH")


def test_downloads_are_torchvisions_and_only_where_nothing_is_there(tmp_path, monkeypatch):
    def refuse(self):
        raise URLError("no route\nto host")

    monkeypatch.setattr(tv.FashionMNIST, "download", refuse)
    damaged(tmp_path, "fashionmnist", "could not fetch", tmp_path, "no route to host", download=True)

    monkeypatch.setattr(tv.FashionMNIST, "download", lambda self: write_idx(tmp_path / "new"))
    assert len(load("fashionmnist", tmp_path / "new", download=True).train_targets) == 20

    monkeypatch.setattr(tv.FashionMNIST, "download", refuse)
    write_folders(tmp_path / "folders", "fashionmnist", 28, 1)
    assert len(load("fashionmnist", tmp_path / "folders", download=True).train_targets) == 30
