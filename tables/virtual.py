"""Tables of the experiments in virtual time: slow workers, lost messages, old models."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aldsgd.statistics import MIN_PAIRS, Interval, mean_interval, paired_by_seed, verdict
from experiments.configuration import DEFAULTS
from experiments.staleness import ANY_AGE
from experiments.stragglers import FORMS
from tables.base import Cell, Table, Unit, caption, mean_only, plus_minus, scaled, table, words
from tables.query import Experiment, Runs

FADING = "asynchronous AL-DSGD, fading"
BOUNDED = "asynchronous AL-DSGD"


def factor_of(config: Mapping) -> float | None:
    """How many times slower one worker is, 1 where none is; None where times are drawn, or more workers are slow."""
    if config.get("times"):
        return None
    return {0: 1.0, 1: config.get("slowdown", DEFAULTS["slowdown"])}.get(config.get("stragglers", 0))


def beside(runs: Experiment, label: str, variant: str | None) -> Runs:
    """The runs of another method under the condition of ``label``."""
    return runs.select(variant=variant, condition=runs.of(label)[0].condition)


def gains(runs: Experiment, variant: str, other: str, column: str = "mean") -> dict[float, dict[int, float]]:
    """factor -> seed -> what a method has more than another with one worker so many times slower, ascending."""
    found = {}
    for number, config in runs.conditions.items():
        own, theirs = (runs.select(variant=each, condition=number).values(column) for each in (variant, other))
        if (factor := factor_of(config)) is not None and set(own) & set(theirs):
            found[factor] = {seed: own[seed] - theirs[seed] for seed in own if seed in theirs}
    return dict(sorted(found.items()))


def crossing(factors: list[float], differences: list[float]) -> float | None:
    """The factor at which a difference, linear in its logarithm, last passes zero upwards; 1 where it never is below,
    None where it ends there."""
    behind = [i for i, difference in enumerate(differences) if difference <= 0]
    if not behind:
        return factors[0]
    if (i := behind[-1]) == len(factors) - 1:
        return None
    share = -differences[i] / (differences[i + 1] - differences[i])
    return math.exp(math.log(factors[i]) + share * (math.log(factors[i + 1]) - math.log(factors[i])))


def overtaking(by_factor: dict[float, dict[int, float]]) -> tuple[float | None, list[float | None]]:
    """(the factor from which on the interval over seeds stays above zero, the crossing of each seed)."""
    first, factors = None, list(by_factor)
    for factor in reversed(factors):
        interval = mean_interval(list(by_factor[factor].values()))
        if interval.n < MIN_PAIRS or not interval.low > 0:
            break
        first = factor
    seeds = set.intersection(*map(set, by_factor.values())) if by_factor else set()
    return first, [crossing(factors, [by_factor[k][seed] for k in factors]) for seed in sorted(seeds)]


def sentence(runs: Experiment, variant: str) -> str:
    """At which factor a method overtakes its synchronous form, in words."""
    first, found = overtaking(gains(runs, variant, FORMS[variant]))
    start = "at none of the factors" if first is None else f"from {first:g} times on"
    never = sum(k is None for k in found)
    if never or not found:
        return f"{variant} {start} ({never} of {len(found)} seeds end behind)"
    log = mean_interval(list(np.log(found)))
    return f"{variant} {start}, passing at {shown_factor(log)}"


def shown_factor(log: Interval) -> str:
    """An interval of the logarithm of a factor."""
    spread = "" if log.n == 1 else f" ({math.exp(log.low):.2f} to {math.exp(log.high):.2f})"
    return f"{math.exp(log.mean):.2f}{spread}"


def gradients(own: Runs) -> float | None:
    """Gradients of all workers together, the mean over seeds."""
    return float(np.mean([entry.run.final["gradients"] for entry in own])) if own else None


def stragglers(root: Path, name: str) -> Table:
    """Every method under every condition, less its synchronous form, and leaders less the same without them."""
    runs = Experiment(root, name)
    unit, rows = Unit.of(runs), []
    for label in runs.labels:
        own = runs.of(label)
        variant = own[0].variant
        leaderless = beside(runs, label, "ADSGD") if variant.startswith(BOUNDED) else Runs(())
        rows.append(
            {
                name: label,
                "seeds": Cell(len(own)),
                "gradients": Cell(gradients(own), "{:.0f}".format),
                "mean worker": unit.show(own.interval("mean")),
                "worst worker": unit.show(own.interval("worst")),
                "mean, less its synchronous form's": unit.gain(
                    own.less(beside(runs, label, FORMS.get(variant)), "mean")
                ),
                "mean, less ADSGD's": unit.gain(own.less(leaderless, "mean")),
            }
        )
    told = [sentence(runs, variant) for variant in runs.variants if variant in FORMS]
    note = (
        "All runs of a condition have the same virtual time; gradients: of all workers together. One worker k times "
        f"slower, the synchronous form is overtaken by: {'; '.join(told)}. (From: the interval of the difference lies "
        "above zero there and at every larger k; passing: where the difference, linear in log k, last passes zero, one "
        "per seed; the smallest k that was run where it is never behind.)"
    )
    return table(caption(runs, note, words(unit)), rows)


def scale(root: Path, name: str) -> Table:
    """Every method with every number of workers, less its synchronous form, and how many gradients it makes of that."""
    runs = Experiment(root, name)
    unit, rows = Unit.of(runs), []
    for label in runs.labels:
        own = runs.of(label)
        waiting = beside(runs, label, FORMS.get(own[0].variant))
        slower = gradients(waiting)
        rows.append(
            {
                name: label,
                "seeds": Cell(len(own)),
                "gradients": Cell(gradients(own), "{:.0f}".format),
                "times its synchronous form's": Cell(gradients(own) / slower if slower else None, "{:.2f}".format),
                **{f"{column} worker": unit.show(own.interval(column)) for column in ("mean", "worst")},
                "averaged model": unit.show(own.interval("averaged")),
                "mean, less its synchronous form's": unit.gain(own.less(waiting, "mean")),
            }
        )
    told = [growth(runs, variant) for variant in runs.variants if variant in FORMS]
    note = (
        "All runs have the same virtual time for each worker; gradients: of all workers together. What not waiting "
        f"gains with the most workers, less that with the fewest, points of the mean worker: {'; '.join(told)}."
    )
    return table(caption(runs, note, words(unit)), rows)


def growth(runs: Experiment, variant: str) -> str:
    """How the gain of a method over its synchronous form grows with the number of workers, by the criterion of the
    script: where the interval of the difference lies above zero."""
    by_size = {}
    for n in sorted(runs.field("workers")):
        own, waiting = (runs.select(variant=each, workers=n).values("mean") for each in (variant, FORMS[variant]))
        by_size[n] = {seed: own[seed] - waiting[seed] for seed in set(own) & set(waiting)}
    grown = paired_by_seed(by_size[max(by_size)], by_size[min(by_size)]) if len(by_size) > 1 else None
    if grown is None:
        return f"{variant} not measured"
    return f"{variant} {plus_minus(scaled(grown, 100), '+')} ({verdict(grown) or 'no difference shown'})"


def losses(root: Path, name: str) -> Table:
    """Every method at every share of lost messages, less itself without losses."""
    runs = Experiment(root, name)
    unit, rows = Unit.of(runs), []
    for label in runs.labels:
        own = runs.of(label)
        whole = Runs(e for e in runs.select(variant=own[0].variant) if not e.run.config.get("message_loss"))
        lost = [e.run.final["messages_lost"] for e in own]
        rows.append(
            {
                name: label,
                "seeds": Cell(len(own)),
                "messages lost": Cell(float(np.mean(lost)), "{:.0f}".format),
                **{f"{column} worker": unit.show(own.interval(column)) for column in ("mean", "worst")},
                **{
                    f"{column}, less itself without losses": unit.gain(own.less(whole, column))
                    for column in ("mean", "worst")
                },
            }
        )
    note = "All runs have the same virtual time. A synchronous method sends a lost message again, and waits."
    return table(caption(runs, note, words(unit)), rows)


def staleness(root: Path, name: str) -> Table:
    """Every method at every delay, less itself without one, less ADSGD, and rules of age less none."""
    runs = Experiment(root, name)
    unit, rows = Unit.of(runs), []
    shortest = min(config["latency"] for config in runs.configs)
    for label in runs.labels:
        own = runs.of(label)
        variant = own[0].variant
        fresh = Runs(e for e in runs.select(variant=variant) if e.run.config["latency"] == shortest)
        leaderless = beside(runs, label, "ADSGD") if variant.startswith(BOUNDED) else Runs(())
        any_age = beside(runs, label, ANY_AGE) if variant in (BOUNDED, FADING) else Runs(())
        rows.append(
            {
                name: label,
                "seeds": Cell(len(own)),
                "mean staleness": mean_only(mean_interval([e.run.final["staleness_mean"] for e in own])),
                **{f"{column} worker": unit.show(own.interval(column)) for column in ("mean", "worst")},
                "mean, less itself without delay": unit.gain(own.less(fresh, "mean")),
                "mean, less ADSGD's": unit.gain(own.less(leaderless, "mean")),
                "mean, less any age's": unit.gain(own.less(any_age, "mean")),
            }
        )
    note = (
        "All runs have the same virtual time. Delay: gradients that a message is on its way. Staleness: how many newer "
        "models its sender had made when a copy was mixed."
    )
    return table(caption(runs, note, words(unit)), rows)
