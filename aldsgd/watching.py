"""What one sees of a run while it trains: a line for each tested epoch, bars on a terminal, and TensorBoard."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from aldsgd.errors import ConfigError

#: Columns of a terminal that everything fits into.
WIDTH = 79
#: What is told of a run as soon as some rows exist: those of one tested epoch, the network's last.
Watcher = Callable[[Sequence[Mapping]], None]


def everyone(*watchers: Watcher | None) -> Watcher:
    """All of these, in order."""

    def tell(rows: Sequence[Mapping]) -> None:
        for watcher in filter(None, watchers):
            watcher(rows)

    return tell


def summary(row: Mapping, metric: str) -> str:
    """The end of an epoch in short: loss, worst and mean worker."""
    values = row["train_loss"], row[f"worst_{metric}"], row[f"mean_{metric}"]
    return " ".join(f"{name} {short(value)}" for name, value in zip(("loss", "worst", "mean"), values, strict=True))


def short(value: float | None) -> str:
    """A number in few characters, also where a run diverges, or has none."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.2g}"


class Lines:
    """A line on stdout for each tested epoch; seconds left go by what epochs took since this began.

    begun: () -> epochs that were done before, asked when there are rows. Those of a checkpoint come first.
    """

    def __init__(self, epochs: int, begun: Callable[[], int] = lambda: 0):
        self.epochs, self.begun, self.began = epochs, begun, time.perf_counter()

    def __call__(self, rows: Sequence[Mapping]) -> None:
        row = rows[-1]
        metric = metric_of(row)
        done = row["epoch"] - self.begun()  # 0 or less for rows of a checkpoint, which took none of this time
        left = (time.perf_counter() - self.began) / done * (self.epochs - row["epoch"]) if done > 0 else None
        print(
            f"epoch {row['epoch']}/{self.epochs}  {summary(row, metric)} averaged {short(row[f'averaged_{metric}'])}  "
            f"consensus {row['consensus_distance']:.3g}  sent {size(row['logical_bytes'])}"
            + (f"  {duration(left)} left" if left else ""),
            flush=True,
        )


def metric_of(row: Mapping) -> str:
    """The first metric of a row of the network."""
    return next(name.removeprefix("worst_") for name in row if name.startswith("worst_"))


def size(sent: float) -> str:
    """Bytes as "1.2 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if sent < 1000:
            return f"{sent:.3g} {unit}"
        sent /= 1000
    return f"{sent:.3g} TB"


def duration(seconds: float) -> str:
    """ "3 h 05 min", "12 min" or "40 s"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def bar(total: int, unit: str, shown: bool, place: int = 0, initial: int = 0) -> tqdm:
    """A bar that fits the width; the bar of runs stands above that of the steps of one."""
    options = dict(unit=unit, disable=not shown, position=place, leave=place == 0, ncols=WIDTH)
    return tqdm(total=total, initial=initial, **options)


class TensorBoard:
    """Every number of the network's rows, in torch's own writer. Raises ConfigError where TensorBoard is not there."""

    def __init__(self, folder: str | Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError("TensorBoard is not installed; python -m pip install tensorboard") from None
        try:
            self.writer = SummaryWriter(str(folder))
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written ({error.strerror}); name another folder") from None

    def __call__(self, rows: Sequence[Mapping]) -> None:
        for row in rows:
            if row.get("worker") is None:
                for name, value in row.items():
                    if isinstance(value, int | float) and name not in ("epoch", "step"):
                        self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def divergence(step: int, total: int, bound: float, lr, algorithm) -> str:
    """That a run diverged at a step of ``total``, and what may have made it: its largest learning rate, and
    coefficients above one."""
    rates = lr if isinstance(lr, Sequence) else (lr,)
    largest = max(range(len(rates)), key=rates.__getitem__)
    of = f" (worker {largest}'s)" if len(rates) > 1 else ""
    above = [f", {name} = {value:g} is above 1" for name, value in algorithm.coefficients.items() if value > 1]
    return (
        f"the run diverged: a loss was {bound:g} or more, or no number, at step {step} of {total}; the largest "
        f"learning rate is {rates[largest]:g}{of}{''.join(above)}; try a smaller one"
    )
