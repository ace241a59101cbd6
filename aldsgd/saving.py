"""Trained models on disk: each worker's and the averaged one as ordinary ``state_dict``s in safetensors files.

A folder holds ``averaged.safetensors``, ``worker-0003.safetensors`` of each worker, and ``model.json``: the network's
name or the function that builds it, what it was built for, how its inputs are normalised, and what it reached. Loading
executes nothing but the builder.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aldsgd.cache import replace_file
from aldsgd.data import normalise
from aldsgd.datasets import Data
from aldsgd.errors import ConfigError, one_line

FORMAT = 1
AVERAGED = "averaged"


def file_of(which: str | int) -> str:
    """Name of the file of the averaged model, or of a worker's."""
    return f"{which}.safetensors" if isinstance(which, str) else f"worker-{which:04d}.safetensors"


def save_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a ``state_dict`` whose tensors may share memory. Raises OSError where the file cannot be written."""
    # Tied tensors are written once for each name: a reader's module ties them again.
    own = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    replace_file(path, lambda temporary: save_file(own, temporary))


def load_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file. Raises ConfigError where it is none, or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} holds no saved model ({one_line(error)}); name a .safetensors file") from None


def describe(data: Data, model: str | None) -> dict:
    """What ``model.json`` says of the data that a model was built for, and its name if it has one."""
    return {
        "format": FORMAT,
        "model": model,
        "data": data.name,
        "task": data.task,
        "shape": list(data.shape),
        "outputs": data.outputs,
        "vocabulary": data.vocabulary,
        "mean": None if data.mean is None else data.mean.tolist(),
        "std": None if data.std is None else data.std.tolist(),
    }


def save_models(folder: str | Path, described: Mapping, states: Mapping[str | int, Mapping[str, Tensor]]) -> Path:
    """Write the folder: ``states`` are ``state_dict``s of "averaged" and of workers by number. Returns the folder.

    Raises ConfigError where it cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for which, state in states.items():
            save_state(folder / file_of(which), state)
        if AVERAGED in states:
            text = json.dumps(described, indent=1) + "\n"
            replace_file(folder / "model.json", lambda path: path.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror or error}); name another folder") from None
    return folder


@dataclass
class Saved:
    """A loaded model, in evaluation mode. Call it on inputs as they came: it normalises them first.

    model: the module. about: what ``model.json`` says.
    """

    model: nn.Module
    about: Mapping

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs (b, ...) for inputs (b, ...): uint8 images, features or tokens, as in the training data."""
        mean, std = (None if self.about[name] is None else torch.tensor(self.about[name]) for name in ("mean", "std"))
        dtype = next(self.model.parameters()).dtype
        return self.model(normalise(inputs, mean, std, dtype))


def load_model(folder: str | Path, which: str | int = AVERAGED, build: Callable[[], nn.Module] | None = None) -> Saved:
    """The averaged model of a folder, or that of a worker by number.

    build: makes the module, where ``model.json`` names none that can be imported. Raises ConfigError for a folder
    without models, a worker that is not there, or a module that does not fit.
    """
    path = Path(folder) / "model.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        shape, outputs = tuple(about["shape"]), about["outputs"]
        name, task, vocabulary = about["model"], about["task"], about["vocabulary"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder} holds no saved models ({one_line(error)}); name what Result.save wrote") from None
    if build is None and name is None:
        raise ConfigError(f"{path} names no model that can be built; pass build, the function that made it")
    if build is None:
        from aldsgd import models

        model = models.build(name, outputs, shape, task, vocabulary)
    else:
        model = build()
    return Saved(fitted(model, load_state(Path(folder) / file_of(which)), folder).eval(), about)


def fitted(model: nn.Module, state: Mapping[str, Tensor], source) -> nn.Module:
    """``model`` with these tensors. Raises ConfigError, naming the first that does not fit."""
    own = model.state_dict()
    for name in sorted({*own, *state}):
        if name not in own or name not in state:
            raise ConfigError(f"{source} and the model differ in {name}; give the model that was saved")
        if own[name].shape != state[name].shape:
            shapes = tuple(state[name].shape), tuple(own[name].shape)
            raise ConfigError(f"{name} has shape {shapes[0]} in {source}, but {shapes[1]} in the model; give its own")
    model.load_state_dict(dict(state))
    return model


def initialised(build: Callable[[], nn.Module], path: str | Path) -> Callable[[], nn.Module]:
    """``build``, then the weights of a file instead of random ones."""
    state = load_state(path)
    return lambda: fitted(build(), state, path)


def frozen(build: Callable[[], nn.Module], prefixes: tuple[str, ...]) -> Callable[[], nn.Module]:
    """``build``, then every parameter whose name begins with one of the prefixes stays as it is.

    Raises ConfigError, when a model is built, for a prefix that no parameter has.
    """

    def build_frozen() -> nn.Module:
        model = build()
        for prefix in prefixes:
            found = [parameter for name, parameter in model.named_parameters() if name.startswith(prefix)]
            if not found:
                known = ", ".join(
                    dict.fromkeys(name.rpartition(".")[0] or name for name, _ in model.named_parameters())
                )
                raise ConfigError(f"no parameter of the model begins with {prefix!r}; its parts are: {known}")
            for parameter in found:
                parameter.requires_grad_(False)
        return model

    return build_frozen
