"""What a batch means: the loss, and the metrics by name. Image classification is one task, regression another.

A metric is a function of sums over samples, so that it is the same however a test set is cut into batches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aldsgd.errors import ConfigError

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """A loss and metrics.

    loss: (outputs, targets) -> scalar mean. metrics: name -> whether more is better; the first is what is compared.
    sums: (outputs, targets) -> float64 sums over the batch, a tensor of one shape. measure: (those sums over all
    samples, all targets) -> value of each metric, in order; of a metric that has a test set for each worker, (n,)
    values, one a set. classes: whether outputs are scores of classes, (*shape of
    targets, classes), or have the shape of the targets.
    """

    name: str
    loss: Loss
    metrics: Mapping[str, bool]
    sums: Callable[[Tensor, Tensor], Tensor]
    measure: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    classes: bool = True

    def check(self, outputs: Tensor, targets: Tensor, numbers: int) -> None:
        """Raise ConfigError unless ``outputs`` have the shape that the task needs for data of so many outputs."""
        shape, wanted = tuple(outputs.shape), tuple(targets.shape)
        if self.classes and not (shape[:-1] == wanted and shape[-1] >= numbers):
            raise ConfigError(
                f"the model gives outputs {shape} where {self.name} with targets {wanted} needs {(*wanted, numbers)}: "
                "change its last layer"
            )
        if not self.classes and shape != wanted:
            raise ConfigError(
                f"the model gives outputs {shape} for {self.name} targets {wanted}: give both the same shape, or "
                "integer targets if they are classes"
            )


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of outputs (b, T, classes) over the targets (b, T) of every place."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def _correct(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(dim=-1) == targets).sum().double()[None]


def _correct_and_surprise(outputs: Tensor, targets: Tensor) -> Tensor:
    surprise = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none").double().sum()
    return torch.cat([_correct(outputs, targets), surprise[None]])


def _square_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.double() - targets.double()).square().sum(dim=0)


def _fit(errors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """R^2 and RMSE, each the mean over the k outputs; R^2 of constant targets is 1 if they are met, else 0."""
    targets = targets.double()
    spread = (targets - targets.mean(dim=0)).square().sum(dim=0)
    constant = torch.where(errors == 0, 1.0, 0.0).to(errors)
    r2 = torch.where(spread > 0, 1 - errors / spread, constant)
    return r2.mean(), (errors / len(targets)).sqrt().mean()


CLASSIFICATION = Task(
    "classification", F.cross_entropy, {"accuracy": True}, _correct, lambda sums, targets: (sums[0] / len(targets),)
)
TOKENS = Task(
    "tokens",
    token_loss,
    {"accuracy": True, "perplexity": False},
    _correct_and_surprise,
    lambda sums, targets: (sums[0] / targets.numel(), (sums[1] / targets.numel()).exp()),
)
REGRESSION = Task("regression", F.mse_loss, {"r2": True, "rmse": False}, _square_errors, _fit, classes=False)
TASKS = {task.name: task for task in (CLASSIFICATION, REGRESSION, TOKENS)}


def task_of(data, loss: Loss | None = None) -> Task:
    """The task of a data set, with a loss of one's own where one is given. Raises ConfigError where it cannot be
    called, or has parameters, which nothing would train."""
    task = TASKS[data.task]
    if loss is None:
        return task
    if not callable(loss) or isinstance(loss, type):
        name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
        raise ConfigError(f"the loss is a {name}; give a function (outputs, targets) -> scalar")
    if isinstance(loss, nn.Module) and any(p.requires_grad for p in loss.parameters()):
        raise ConfigError("the loss has parameters, which are not trained; make them part of the model")
    return replace(task, loss=loss)


#: The metric that ``personalised`` adds to accuracy.
PERSONALISED = "personalised_accuracy"


def personalised(task: Task, data, shards: Sequence[np.ndarray]) -> Task:
    """Classification with a test set for each worker, in which labels are mixed as in its shard.

    Its accuracy there is sum_c p_i(c) a(c), with p_i(c) the share of label c among the training samples of worker i and
    a(c) the accuracy on the test samples of c: what it is expected to get right of samples drawn by these shares, from
    all test samples and without a draw. Labels that the test set lacks are left out of the shares.

    data: whose labels are counted. Raises ConfigError where targets are no classes, or the test set has none of a
    worker's labels.
    """
    if task.name != "classification":
        raise ConfigError(
            f"personalised accuracy needs one label a sample, and {data.name} is {task.name}: leave it out"
        )
    labels, classes = data.train_targets.cpu(), data.outputs
    mixes = torch.stack([torch.bincount(labels[torch.as_tensor(shard)], minlength=classes) for shard in shards])
    tested = torch.bincount(data.test_targets.cpu(), minlength=classes) > 0
    for worker, mix in enumerate(mixes):
        if not mix[tested].any():
            raise ConfigError(f"none of worker {worker}'s labels is in the test set: take more test samples")

    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.bincount(targets[outputs.argmax(dim=-1) == targets], minlength=classes).double()

    def measure(correct: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        count = torch.bincount(targets, minlength=classes)
        shares = mixes.to(count.device) * (count > 0).double()
        return correct.sum() / len(targets), shares @ (correct / count.clamp(min=1)) / shares.sum(dim=1)

    return replace(task, metrics={**task.metrics, PERSONALISED: True}, sums=sums, measure=measure)
