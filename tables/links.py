"""The modelled time of a recorded run on another link; nothing is trained again for it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from aldsgd.errors import ConfigError
from aldsgd.runs import Run

#: Gigabits per second, and seconds per message.
BANDWIDTHS = (1, 10, 100)
LATENCIES = (5e-6, 50e-6, 500e-6)
_BYTES = {"float64": 8}


def model_bytes(run: Run) -> float:
    """Bytes of one model of a run. Raises ConfigError where the run does not say how many parameters it has."""
    try:
        return run.meta["extra"]["parameters"] * _BYTES.get(run.config["precision"], 4)
    except (KeyError, TypeError):
        raise ConfigError(f"{run.csv} does not say how large its model is: train it again") from None


def message_bytes(run: Run) -> float:
    """Bytes of one message of a run: a model, with a loss where leaders act; 1/n of a model for ring all-reduce."""
    config = run.config
    model = model_bytes(run)
    if config["method"] == "allreduce":
        return model / config["workers"]
    return model + (4 if config["method"] == "aldsgd" else 0)


def messages(run: Run) -> pd.Series:
    """Messages that had to follow one another by each tested epoch, from the recorded modelled time.

    Exact while every message of a run has the same size, which holds when leaders act at every step.
    """
    config = run.config
    one = config["latency"] + message_bytes(run) / config["bandwidth"]
    return run.network["modelled_communication_s"] / one


def modelled_seconds(run: Run, gigabits: float, latency: float) -> pd.Series:
    """Modelled seconds, computation and communication, by each tested epoch on a link of this speed."""
    one = latency + message_bytes(run) / (gigabits * 1e9 / 8)
    return run.network["modelled_compute_s"] + messages(run) * one


def first_reached(run: Run, target: float) -> int | None:
    """Row of ``run.network`` at which the mean worker's curve first reaches ``target`` at a test; None if never."""
    reached = run.curve[f"mean_{run.metrics[0]}"] >= target
    return int(reached.idxmax()) if reached.any() else None


def at_equal_bytes(ours: Mapping[int, Run], theirs: Mapping[int, Run]) -> tuple[dict[int, float], dict[int, float]]:
    """seed -> the mean worker's metric of either run of that seed, when both have sent what the one that sends less had
    sent by the last test of its curve."""
    found: tuple[dict[int, float], dict[int, float]] = {}, {}
    for seed in set(ours) & set(theirs):
        pair = ours[seed], theirs[seed]
        spent = min(run.curve["logical_bytes"].iloc[-1] for run in pair)
        for values, run in zip(found, pair, strict=True):
            values[seed] = mean_at(run, run.network["logical_bytes"].to_numpy(), spent, np.nan)
    return found


def mean_at(run: Run, spent: Sequence[float], at: float, beyond: float | None = None) -> float:
    """The mean worker's metric when so much is spent, on the line between two tests of its curve.

    spent: by each tested epoch, ascending. NaN before the first; ``beyond`` the last, None for the curve's end.
    """
    values = run.curve[f"mean_{run.metrics[0]}"].to_numpy(dtype=float)
    spent = spent[: len(values)]
    end = values[-1] if beyond is None else beyond
    return float(end if at > spent[-1] else np.interp(at, spent, values, left=np.nan))
