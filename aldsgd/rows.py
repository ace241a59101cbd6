"""A model as a row of a flat tensor: which parameters travel, and modules whose parameters are views of a row."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, cat, nn

from aldsgd.errors import ConfigError


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that travel, in definition order. Raises ConfigError where their dtypes differ."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    if len({p.dtype for p in parameters}) > 1:
        raise ConfigError("the model's trainable parameters have several dtypes; convert it to one")
    return parameters


def untrained(module: nn.Module) -> list[Tensor]:
    """What never travels, in definition order: frozen parameters and all buffers."""
    return [p for p in module.parameters() if not p.requires_grad] + list(module.buffers())


def checked_model(module) -> nn.Module:
    """``module`` where it can be trained. Raises ConfigError where it is no module, or has no parameters that can move."""
    if not isinstance(module, nn.Module):
        raise ConfigError(f"build gives a {type(module).__name__}; return an nn.Module")
    if any(isinstance(p, nn.parameter.UninitializedTensorMixin) for p in (*module.parameters(), *module.buffers())):
        raise ConfigError("the model is lazy, so that its size is not known; give its layers their input sizes")
    own = trainable(module)
    if not sum(p.numel() for p in own):
        raise ConfigError("the model has no trainable parameters; there is nothing to exchange")
    if any(value.is_complex() for value in (*module.parameters(), *module.buffers())):
        raise ConfigError("the model holds complex numbers; keep real ones, such as their real and imaginary parts")
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in own):
        raise ConfigError("the model is in half precision; leave it in float32, and choose precision='bf16' instead")
    if not all(p.isfinite().all() for p in own if not p.is_meta):
        raise ConfigError("the initial model holds values that are not finite; mend its initialisation")
    # A part that its builder left in evaluation mode stays so, such as a frozen BatchNorm; the model as a whole trains.
    return module if module.training else module.train()


def structure(module: nn.Module) -> list:
    """What must be equal among the models of one run: layers, their options, and the shapes of all that they hold."""
    layers = [
        (type(m).__name__, m.extra_repr() if type(m).__module__.startswith("torch.nn") else "", m.training)
        for m in module.modules()
    ]
    held = [(p.shape, p.dtype, p.requires_grad) for p in (*module.parameters(), *module.buffers())]
    return [layers, held]


def flat(module: nn.Module) -> Tensor:
    """Copy (P,) of the module's trainable parameters."""
    return cat([p.detach().reshape(-1) for p in trainable(module)])


def attach(module: nn.Module, row: Tensor, gradient: Tensor | None = None) -> None:
    """Make the module's trainable parameters (and their gradients) views of ``row`` (P,), keeping their values."""
    offset = 0
    for p in trainable(module):
        part = slice(offset, offset + p.numel())
        row[part].copy_(p.detach().reshape(-1))
        p.data = row[part].view_as(p)
        if gradient is not None:
            p.grad = gradient[part].view_as(p)
        offset = part.stop


def running_statistics(module: nn.Module) -> list[Tensor]:
    """The floating-point buffers of a module, BatchNorm's running statistics above all."""
    return [buffer for buffer in module.buffers() if buffer.is_floating_point()]


def set_statistics(module: nn.Module, values: list[Tensor]) -> None:
    """Copy ``values`` into the module's floating-point buffers."""
    for buffer, value in zip(running_statistics(module), values, strict=True):
        buffer.copy_(value)


@contextlib.contextmanager
def untouched(module: nn.Module) -> Iterator[nn.Module]:
    """Afterwards all that ``module`` holds besides its parameters is what it was: buffers, modes, and attributes of its own.

    A copy would do as well, but not every module can be copied.
    """
    kept = [(part, part.training, dict(vars(part))) for part in module.modules()]
    buffers = [
        (part._buffers, n, b, b.clone()) for part in module.modules() for n, b in part._buffers.items() if b is not None
    ]
    try:
        yield module
    finally:
        for part, mode, attributes in kept:
            vars(part).clear()
            vars(part).update(attributes)
            part.training = mode  # which a scripted module does not hold among its attributes
        with torch.no_grad():
            for own, name, buffer, value in buffers:
                own[name] = buffer.copy_(value)


@contextlib.contextmanager
def lent(module: nn.Module, row: Tensor) -> Iterator[nn.Module]:
    """``module`` with parameters ``row`` (P,), which are afterwards those of its worker again; ``untouched`` otherwise."""
    own = [(p, p.data) for p in trainable(module)]
    try:
        with untouched(module):
            nn.utils.vector_to_parameters(row, trainable(module))
            yield module
    finally:
        for p, data in own:
            p.data = data
