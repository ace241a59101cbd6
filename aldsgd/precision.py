"""Named arithmetic of the forward and backward pass; parameters, gradients and mixing are never narrower than float32.

- "float32": the reference; matrix products and convolutions in full float32.
- "float64": everything in float64.
- "tf32": float32 whose products and convolutions round their inputs to TensorFloat-32 (Ampere or newer GPUs).
- "bf16": autocast; products and convolutions in bfloat16, the loss in float32.
"""

import contextlib
import os
from collections.abc import Iterator

import torch

from aldsgd.errors import ConfigError, brief

#: The dtype of parameters under each name.
PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "tf32": torch.float32, "bf16": torch.float32}


def device_of(name) -> torch.device:
    """The device of that name. Raises ConfigError where there is none here."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"no device {brief(name)}; use cpu or cuda") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {device} is not there: torch sees {torch.cuda.device_count()} GPUs; use cpu")
    return device


class Arithmetic:
    """One of ``PRECISIONS`` on a device.

    Raises:
        ConfigError: an unknown name, a device that is not there, or "tf32" on a CPU.
    """

    def __init__(self, precision: str, device):
        self.device = device_of(device)
        if precision not in PRECISIONS:
            raise ConfigError(f"unknown precision '{precision}'; choose one of: {', '.join(PRECISIONS)}")
        if precision == "tf32" and self.device.type != "cuda":
            raise ConfigError("precision tf32 is a mode of GPUs, not of a CPU; use float32, or --device cuda")
        self.precision, self.dtype = precision, PRECISIONS[precision]

    @contextlib.contextmanager
    def flags(self) -> Iterator[None]:
        """The whole pass, forward and backward: whether TensorFloat-32 may be used. Nothing to do on a CPU."""
        if self.device.type != "cuda":
            yield
            return
        backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
        before = [backend.allow_tf32 for backend in backends]
        try:
            for backend in backends:
                # cuDNN allows it by default, so float32 has to say no.
                backend.allow_tf32 = self.precision == "tf32"
            yield
        finally:
            for backend, value in zip(backends, before, strict=True):
                backend.allow_tf32 = value

    def forward(self):
        """Context of the forward pass alone."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        # Each weight is used once in a pass, and a cached copy would outlive the graph that a capture makes.
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)


def prepare_device(device: str, deterministic: bool) -> None:
    """Set torch up for a run: on a GPU either the fastest kernels, or with ``deterministic`` the same bits each time.

    An operation that has no deterministic form is named in a warning.
    """
    if not str(device).startswith("cuda"):
        return
    if deterministic:
        # cuBLAS reads this when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
