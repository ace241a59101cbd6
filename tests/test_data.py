"""A user's own data: arrays, data sets of torch, subsets, wrong labels, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from aldsgd.datasets import Data
from aldsgd.differences import label_noise
from aldsgd.errors import ConfigError


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
