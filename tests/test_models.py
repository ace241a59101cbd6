"""The models: counts of the paper, shapes, reproducible initialisation, float64."""

import pytest
import torch
from torch import nn

from aldsgd.errors import ConfigError
from aldsgd.models import NAMES as ALL
from aldsgd.models import build

NAMES = tuple(name for name in ALL if name != "gru")
SMALL = ("mlp", "logistic", "resnet_small", "resnet_small_gn", "cnn")


@pytest.mark.parametrize(
    ("name", "classes", "shape", "count"),
    [
        ("resnet50_narrow", 10, (3, 32, 32), 545_930),
        ("wrn28_10", 100, (3, 32, 32), 36_546_980),
        ("vgg16_bn", 10, (3, 32, 32), 14_728_266),
        ("resnet_small", 10, (3, 32, 32), 78_042),
        ("resnet_small_gn", 10, (3, 32, 32), 78_042),
        ("cnn", 10, (3, 32, 32), 24_346),
        ("mlp", 10, (1, 8, 8), 64 * 128 + 128 + 128 * 10 + 10),
        ("logistic", 10, (1, 8, 8), 650),
        ("mlp_narrow", 10, (1, 28, 28), 12730),
    ],
)
def test_parameter_counts(name, classes, shape, count):
    assert sum(p.numel() for p in build(name, classes, shape).parameters()) == count


@pytest.mark.parametrize("name", ["resnet50_narrow", "wrn28_10"])
def test_paper_models_have_a_bias_in_every_convolution_and_pool_over_8x8(name):
    model = build(name, 10, (3, 32, 32))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.bias is not None for m in convolutions)
    assert sum(m.kernel_size == (3, 3) for m in convolutions) == {"resnet50_narrow": 1 + 13, "wrn28_10": 1 + 24}[name]
    seen = []
    pool = next(m for m in model.modules() if isinstance(m, nn.AdaptiveAvgPool2d))
    pool.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[1:])))
    model(torch.randn(1, 3, 32, 32))
    assert seen == [(256 if name == "resnet50_narrow" else 640, 8, 8)]


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, (3, 32, 32)) for name in NAMES]
    + [(name, shape) for name in SMALL for shape in ((1, 8, 8), (1, 28, 28))]
    + [(name, shape) for name in ("resnet50_narrow", "vgg16_bn") for shape in ((1, 8, 8), (1, 28, 28))]
    + [("mlp", (7,)), ("logistic", (7,))],
)
def test_forward_shapes_and_a_gradient_for_every_parameter(name, shape):
    torch.manual_seed(0)
    model = build(name, 7, shape)
    out = model(torch.randn(2, *shape))
    assert out.shape == (2, 7)
    assert model.training
    nn.functional.cross_entropy(out, torch.tensor([0, 6])).backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("wrn28_10", "vgg16_bn")])
def test_the_global_seed_fixes_the_initial_model(name):
    def flat(seed):
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build(name, 10, (3, 32, 32)).parameters())

    assert torch.equal(flat(5), flat(5))
    assert not torch.equal(flat(5), flat(6))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("wrn28_10", "vgg16_bn")])
def test_float64_agrees_with_float32(name):
    torch.manual_seed(0)
    single = build(name, 10, (3, 16, 16))
    double = build(name, 10, (3, 16, 16)).double()
    double.load_state_dict(single.state_dict())
    x = torch.randn(4, 3, 16, 16)
    out = double(x.double())
    assert out.dtype == torch.float64
    torch.testing.assert_close(single(x).double(), out, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("task", "shape"), [("classification", (3, 5)), ("tokens", (3, 7, 5)), ("regression", (3, 5))])
def test_the_recurrent_model_reads_tokens(task, shape):
    torch.manual_seed(0)
    model = build("gru", 5, (7,), task, vocabulary=11)
    out = model(torch.randint(11, (3, 7)))
    assert out.shape == shape
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_scores_of_a_token_do_not_see_what_follows():
    model = build("gru", 5, (7,), "tokens", vocabulary=5)
    tokens = torch.randint(5, (1, 7))
    changed = tokens.clone()
    changed[0, 4:] = (changed[0, 4:] + 1) % 5
    one, two = model(tokens), model(changed)
    assert torch.equal(one[:, :4], two[:, :4]) and not torch.equal(one[:, 4:], two[:, 4:])


def test_regression_has_one_output_where_a_classifier_needs_two():
    assert build("mlp", 1, (4,), "regression")(torch.zeros(3, 4)).shape == (3, 1)


@pytest.mark.parametrize("arguments", [("mlp", 5, (7,), "tokens", 9), ("gru", 5, (7,), "tokens", None)])
def test_models_and_inputs_that_do_not_fit(arguments):
    with pytest.raises(ConfigError, match="use gru for tokens"):
        build(*arguments)


@pytest.mark.parametrize(
    ("name", "classes", "shape", "words"),
    [
        ("resnet50", 10, (3, 32, 32), "resnet50_narrow"),
        ("mlp", 1, (3, 32, 32), "at least 2 classes"),
        ("resnet_small", 10, (64,), "mlp"),
        ("logistic", 10, (), "empty"),
        ("mlp", 10, (1, 0, 8), "empty"),
    ],
)
def test_bad_requests_say_what_to_do(name, classes, shape, words):
    with pytest.raises(ConfigError, match=words):
        build(name, classes, shape)
