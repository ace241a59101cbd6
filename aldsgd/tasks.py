"""What a batch means: the loss, and the metrics by name. Image classification is one task, regression and text are others.

A metric is a function of sums over samples, so that it is the same however a test set is cut into batches.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aldsgd.errors import ConfigError

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """A loss and metrics.

    loss: (outputs, targets) -> scalar mean. metrics: name -> whether more is better; the first is what is compared.
    sums: (outputs, targets) -> float64 sums over the batch, (k,). measure: (those sums over all samples, samples, mean loss)
    -> value of each metric, in order.
    """

    name: str
    loss: Loss
    metrics: Mapping[str, bool]
    sums: Callable[[Tensor, Tensor], Tensor]
    measure: Callable[[Tensor, int, Tensor], tuple[Tensor, ...]]


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of outputs (b, T, classes) over the targets (b, T) of every place."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def _correct(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(dim=-1) == targets).sum().double()[None]


def _correct_tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    right = outputs.argmax(dim=-1) == targets
    return torch.stack(
        [right.sum().double(), torch.tensor(float(right.numel()), dtype=torch.float64, device=right.device)]
    )


def _moments(outputs: Tensor, targets: Tensor) -> Tensor:
    outputs, targets = outputs.double().flatten(1), targets.double().flatten(1)
    rest = (outputs - targets).square().sum(dim=0)
    return torch.stack([rest, targets.sum(dim=0), targets.square().sum(dim=0)]).flatten()


def _fit(sums: Tensor, samples: int, loss: Tensor) -> tuple[Tensor, Tensor]:
    rest, total, squares = sums.view(3, -1)
    spread = squares - total.square() / samples
    return 1 - rest.sum() / spread.sum(), (rest.mean() / samples).sqrt()


CLASSIFICATION = Task(
    "classification", F.cross_entropy, {"accuracy": True}, _correct, lambda sums, samples, loss: (sums[0] / samples,)
)
TOKENS = Task(
    "tokens",
    token_loss,
    {"accuracy": True, "perplexity": False},
    _correct_tokens,
    lambda sums, samples, loss: (sums[0] / sums[1], loss.exp()),
)
REGRESSION = Task("regression", F.mse_loss, {"r2": True, "rmse": False}, _moments, _fit)
TASKS = {task.name: task for task in (CLASSIFICATION, REGRESSION, TOKENS)}


def task_of(data, loss: Loss | None = None) -> Task:
    """The task of a data set, with a loss of one's own where one is given. Raises ConfigError where it cannot be called."""
    task = TASKS[data.task]
    if loss is None:
        return task
    if not callable(loss):
        raise ConfigError(f"the loss is a {type(loss).__name__}; give a function (outputs, targets) -> scalar")
    return Task(task.name, loss, task.metrics, task.sums, task.measure)
