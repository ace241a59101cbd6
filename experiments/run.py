"""One configuration of your own, for one or several seeds; the runs go to the same store as everyone's.

Command:  python -m experiments.run --method aldsgd --graph ring --workers 12 --epochs 20 --seeds 0 1 2
Prints:   accuracy of the worst, the mean and the averaged model at the last epoch, with intervals over the seeds.
"""

import argparse
import types
from dataclasses import MISSING, Field, fields, replace
from typing import get_args, get_type_hints

from aldsgd.errors import ConfigError
from aldsgd.statistics import mean_interval
from experiments.common import command, linked, parser, train_missing
from experiments.configuration import RunConfig

SHOWN = ("worst_accuracy", "mean_accuracy", "best_accuracy", "averaged_accuracy", "consensus_distance")


def add_options(p: argparse.ArgumentParser) -> None:
    """One option for each field of ``RunConfig``, except the seed, which every script has."""
    hints = get_type_hints(RunConfig)
    for f in fields(RunConfig):
        if f.name == "seed":
            continue
        if hints[f.name] is bool:
            p.add_argument(f"--{f.name}", action="store_true", help=f.metadata["help"])
        else:
            p.add_argument(
                f"--{f.name}",
                metavar=f.name.upper(),
                help=describe(f),
                **({"nargs": "+"} if f.name in ("lr", "lr_drops") else {}),
            )


def describe(f: Field) -> str:
    """The help of one field: what it is, its choices and its default."""
    choices = f.metadata["choices"]
    default = "none" if f.default in (None, ()) or f.default is MISSING else f.default
    return f.metadata["help"] + (f": {', '.join(choices)}" if choices else "") + f" (default: {default})"


def value_of(f: Field, hint, given):
    """What was typed for one field, as its type. Raises ConfigError naming the option."""
    try:
        if f.name == "lr":
            rates = tuple(map(float, given))
            return rates[0] if len(rates) == 1 else rates
        if f.name == "lr_drops":
            return tuple((int(epoch), float(factor)) for epoch, factor in (drop.split(":") for drop in given))
        kinds = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if given == "none" and type(None) in kinds:
            return None
        return next(kind for kind in kinds if kind is not type(None))(given)
    except ValueError:
        raise ConfigError(f"--{f.name} {given} cannot be read; it is: {describe(f)}") from None


def configuration(options: argparse.Namespace) -> RunConfig:
    """The configuration that the options describe."""
    hints, changes = get_type_hints(RunConfig), {}
    for f in fields(RunConfig):
        given = getattr(options, f.name, None)
        if given is None or f.name == "seed":
            continue
        value = given if isinstance(given, bool) else value_of(f, hints[f.name], given)
        choices = f.metadata["choices"]
        if choices and value is not None and value not in choices:
            raise ConfigError(f"unknown {f.name} '{value}'; choose one of: {', '.join(choices)}")
        changes[f.name] = value
    return RunConfig(**changes)


def main() -> None:
    p = parser(__doc__, seeds=(0,))
    add_options(p.add_argument_group("the run"))
    options = p.parse_args()
    config = linked(configuration(options), options)
    configs = [replace(config, seed=seed) for seed in options.seeds]
    entries = [(config.method, each.seed, each) for each in configs]
    store = train_missing("run", entries, options)
    runs = [store.load(each.record()) for each in configs]
    for run in runs:
        print(f"{store.folder / store.stem(run.config)}.csv")
    for column in SHOWN:
        interval = mean_interval([run.network[column].iloc[-1] for run in runs])
        spread = f" ± {interval.half_width:.4g} (95 %, {len(runs)} seeds)" if len(runs) > 1 else " (one seed)"
        print(f"{column:20s} {interval.mean:.4g}{spread}")


if __name__ == "__main__":
    command(main)
