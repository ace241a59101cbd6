"""A model as a row of a flat tensor: which parameters travel, and modules whose parameters are views of a row."""

from torch import Tensor, cat, nn

from aldsgd.errors import ConfigError


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that travel, in definition order. Raises ConfigError where their dtypes differ."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    if len({p.dtype for p in parameters}) > 1:
        raise ConfigError("the model's trainable parameters have several dtypes; convert it to one")
    return parameters


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
