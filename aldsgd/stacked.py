"""Worker-stacked layers: the n models of a process as one network, so that a layer of all workers is one kernel.

Activations are (n, channels, samples, height, width), worker first and samples inside channels. Then a 1x1 convolution
and a linear layer are one batched matrix product, BatchNorm is one over n x channels contiguous rows, and any other
convolution is one with n groups. Weights are views of the flat (n, P) parameters; BatchNorm's statistics lie stacked,
and the buffers of each worker's own module become views of them, so that the modules stay what they are.
"""

import copy
from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aldsgd.models import BasicBlock, Bottleneck, WideBlock
from aldsgd.rows import trainable

# Act on each element alone and have no parameters: they run on any layout, as they are.
ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Identity)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
#: Containers whose ``forward`` only chains their children and combines the outputs element by element. A class of
#: one's own joins them with a class attribute ``elementwise = True``.
CONTAINERS = (nn.Sequential, Bottleneck, WideBlock, BasicBlock)


def obstacle(model: nn.Module) -> str | None:
    """Why ``model`` cannot be stacked, or None where it can: every module must be known by its exact class."""
    for module in model.modules():
        kind, name = type(module), type(module).__name__
        if kind in CONTAINERS or kind.__dict__.get("elementwise"):
            if module._parameters or module._buffers:
                return f"a {name} with parameters of its own"
        elif kind in NORMS:
            if module.track_running_stats and module.momentum is None:
                return f"a {name} without momentum"
        elif kind is nn.Conv2d:
            if module.padding_mode != "zeros":
                return f"a {name} with padding mode {module.padding_mode}"
        elif kind is nn.Flatten:
            if (module.start_dim, module.end_dim) != (1, -1):
                return f"a {name} of some dimensions only"
        elif kind not in (nn.Linear, nn.GroupNorm, *ELEMENTWISE, *POOLS):
            return f"a {name}"
        if hooked(module):
            return f"a {name} with hooks"
    if not all(p.requires_grad for p in model.parameters()):
        return "a parameter that is not trained"
    return None


def hooked(module: nn.Module) -> bool:
    """Whether more than its class's ``forward`` runs when the module is called, or differentiated."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in vars(module) or any(map(_changed, module._parameters.values()))


def _changed(parameter: nn.Parameter | None) -> bool:
    """Whether a hook sees the parameter's gradient, and may change it."""
    return parameter is not None and bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


class Stack:
    """The models of ``modules`` (no ``obstacle``) as one network, called with the parameters (n, P) of all.

    The modules' BatchNorm buffers become views of stacked ones, with the values they had.
    """

    def __init__(self, modules: Sequence[nn.Module]):
        own = trainable(modules[0])
        self.n = len(modules)
        self.shapes, self.sizes = [p.shape for p in own], [p.numel() for p in own]
        self.weights: list[Tensor] = []
        self._normalised: list[Tensor] = []
        self._places = {id(p): place for place, p in enumerate(own)}
        self._known: dict[int, nn.Module] = {}
        self.network = self._build(modules)

    def __call__(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """Outputs (n, b, ...) on ``inputs`` (n, b, ...), in the mode (training or not) of the first module."""
        columns = parameters.split(self.sizes, dim=1)
        self.weights[:] = [c.view(self.n, *shape) for c, shape in zip(columns, self.shapes, strict=True)]
        try:
            return self.network(inputs.transpose(1, 2)).transpose(1, 2)
        finally:
            self.weights.clear()
            self._count()

    def passed(self, counter: Tensor) -> None:
        """Note that a BatchNorm with this ``num_batches_tracked`` (n,) has seen a training batch."""
        self._normalised.append(counter)

    def _count(self) -> None:
        # One kernel for all layers; a layer that stands at two places counts twice.
        uses = Counter(map(id, self._normalised))
        counters = list({id(counter): counter for counter in self._normalised}.values())
        if counters:
            torch._foreach_add_(counters, [uses[id(counter)] for counter in counters])
        self._normalised.clear()

    def weight(self, parameter: nn.Parameter | None) -> int | None:
        """Where the stacked form of the first module's ``parameter`` stands in ``weights``."""
        return None if parameter is None else self._places[id(parameter)]

    def _build(self, modules: Sequence[nn.Module]) -> nn.Module:
        """The stacked form of modules that stand at one place of each model."""
        first = modules[0]
        if id(first) not in self._known:
            self._known[id(first)] = self._stacked(modules)
        return self._known[id(first)]

    def _stacked(self, modules: Sequence[nn.Module]) -> nn.Module:
        first = modules[0]
        if isinstance(first, ELEMENTWISE):
            return first
        for kinds, layer in (
            (nn.Linear, Linear), (nn.Conv2d, Conv2d), (NORMS, BatchNorm), (nn.GroupNorm, GroupNorm), (POOLS, Pool),
        ):  # fmt: skip
            if isinstance(first, kinds):
                return layer(self, modules)
        if isinstance(first, nn.Flatten):
            return Flatten()
        whole = copy.copy(first)
        whole._modules = {name: self._build([m._modules[name] for m in modules]) for name in first._modules}
        return whole


class Layer(nn.Module):
    """A layer of all workers. ``first``: the first worker's own, which knows the options and the mode."""

    def __init__(self, stack: Stack, modules: Sequence[nn.Module]):
        super().__init__()
        # Not registered as a child: this layer owns nothing of it.
        self.__dict__["first"], self.n, self.stack = modules[0], len(modules), stack
        self.places = stack.weight(modules[0].weight), stack.weight(modules[0].bias)

    def own(self) -> tuple[Tensor | None, Tensor | None]:
        """Stacked weight (n, ...) and bias (n, ...), None where the layer has none."""
        return tuple(None if place is None else self.stack.weights[place] for place in self.places)


class Linear(Layer):
    """On the last dimension of the workers' own layout, as ``nn.Linear``: one batched product."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.own()
        x = x.transpose(1, 2)
        rows, weight = x.reshape(self.n, -1, x.shape[-1]), weight.transpose(1, 2)
        rows = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)
        return rows.view(*x.shape[:-1], -1).transpose(1, 2)


class Conv2d(Layer):
    """(n, C, b, H, W) -> (n, O, b, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.own()
        layer = self.first
        if layer.kernel_size == (1, 1) and layer.padding in ((0, 0), "valid", "same") and layer.groups == 1:
            return self.pointwise(x, weight, bias)
        n, channels, samples = x.shape[:3]
        x = x.permute(2, 0, 1, 3, 4).reshape(samples, n * channels, *x.shape[3:])
        x = F.conv2d(
            x,
            weight.reshape(n * layer.out_channels, *weight.shape[2:]),
            None if bias is None else bias.reshape(-1),
            layer.stride,
            layer.padding,
            layer.dilation,
            n * layer.groups,
        )
        return x.view(samples, n, layer.out_channels, *x.shape[2:]).permute(1, 2, 0, 3, 4).contiguous()

    def pointwise(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A 1x1 convolution: a product over the channels at every pixel of every sample."""
        down, across = self.first.stride
        x = x[..., ::down, ::across]
        columns, weight = x.reshape(*x.shape[:2], -1), weight.flatten(2)
        out = torch.bmm(weight, columns) if bias is None else torch.baddbmm(bias[:, :, None], weight, columns)
        return out.view(self.n, -1, *x.shape[2:])


class BatchNorm(Layer):
    """Each worker's channels over its own samples; running statistics per worker."""

    def __init__(self, stack: Stack, modules: Sequence[nn.Module]):
        super().__init__(stack, modules)
        self.statistics = None, None
        if self.first.track_running_stats:
            self.statistics = tuple(share(modules, name).view(-1) for name in ("running_mean", "running_var"))
            self.counter = share(modules, "num_batches_tracked")

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (None if w is None else w.reshape(-1) for w in self.own())
        layer, (mean, var) = self.first, self.statistics
        batch = layer.training or mean is None
        if layer.training and mean is not None:
            self.stack.passed(self.counter)
        momentum = 0.0 if layer.momentum is None else layer.momentum
        flat = x.reshape(1, x.shape[0] * x.shape[1], -1)
        return F.batch_norm(flat, mean, var, weight, bias, batch, momentum, layer.eps).view(x.shape)


class GroupNorm(Layer):
    """Each worker's groups of channels, sample by sample: n times as many groups."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (None if w is None else w.reshape(-1) for w in self.own())
        samples = x.movedim(2, 0)
        flat = samples.reshape(len(samples), x.shape[0] * x.shape[1], *x.shape[3:])
        normed = F.group_norm(flat, self.n * self.first.num_groups, weight, bias, self.first.eps)
        return normed.view(samples.shape).movedim(0, 2).contiguous()


class Pool(nn.Module):
    """A pooling on each worker's, channel's and sample's image."""

    def __init__(self, stack: Stack, modules: Sequence[nn.Module]):
        super().__init__()
        self.pool = modules[0]

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(x.flatten(0, 1))
        return pooled.view(*x.shape[:3], *pooled.shape[2:])


class Flatten(nn.Module):
    """(n, C, b, ...) -> (n, C x ..., b), features in the order of ``nn.Flatten``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2).transpose(1, 2)


def share(modules: Sequence[nn.Module], name: str) -> Tensor:
    """The buffer ``name`` of all modules as one (n, ...) tensor, of which each module's own becomes a view."""
    stacked = torch.stack([module._buffers[name] for module in modules])
    for module, row in zip(modules, stacked, strict=True):
        module._buffers[name] = row
    return stacked
