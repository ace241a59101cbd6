"""Every experiment, or some of them, with one command: trains what the store lacks and says what is left.

What:     the runs of all experiments of a preset, each once however many experiments share it, in several processes.
          Ctrl-C, a crash or a power cut lose only the runs that were in work; the same command goes on with the rest. A
          run that fails is reported at the end and does not stop the others.
Command:  python -m experiments.all --preset cpu --jobs 2 --data DIR
          python -m experiments.all --preset cpu --list        what is complete, what is left, and for how long
          python -m experiments.all --preset cpu --only sparsity ablation
Hardware: two CPU cores. Time: smoke 1 minute, cpu and mid hours (docs/rerun.md). The paper preset is GPU years; choose
          with --only.
Expect:   tables and figures afterwards: python paper_tables.py, python -m figures.all, python paper_tables.py --claims.
"""

import argparse
from collections.abc import Iterable
from importlib import import_module

import numpy as np

from aldsgd.errors import ConfigError
from aldsgd.listings import larger_listed, write_experiment
from aldsgd.records import RunStore
from aldsgd.watching import duration
from experiments.command import Session, command
from experiments.configuration import RunConfig
from experiments.options import execution, launched, parser
from experiments.rates import NoRate
from experiments.scales import SEEDS, conditions_of, entries_of

#: In the order in which they are run: those that answer most, and share most, come first.
EXPERIMENTS = (
    "tuning", "own_rates", "convergence", "baseline_audit", "sparsity", "communication", "degree_effect",
    "final_accuracy", "ablation", "heterogeneous", "judges", "leader_rates", "who_leads", "leaders", "proposal",
    "equal_time", "leaders_cifar10", "non_iid", "sixteen_workers", "sensitivity", "starts", "groupnorm", "momentum",
    "alone", "half_rates", "field_rates", "field", "schedules", "skew", "local_steps", "compression", "faults",
    "stragglers", "losses", "staleness", "async_scale",
)  # fmt: skip
#: Training images per second on one quiet core, for the estimate before any run of the kind is in the store.
RATES = {
    "resnet_small": 2000,
    "cnn": 4000,
    "mlp": 40000,
    "mlp_narrow": 40000,
    "logistic": 40000,
    "resnet50_narrow": 120,
    "wrn28_10": 5,
}


#: (label, seed, configuration) of a run.
Runs = list[tuple[str, int, RunConfig]]


def plan(names: Iterable[str], options: argparse.Namespace) -> dict[str, Runs]:
    """Every run of each experiment that has the preset, seeds outermost; one whose rates are not chosen is left out."""
    found = {}
    for name in names:
        module = import_module(f"experiments.{name}")
        known = getattr(module, "SEEDS", SEEDS)
        if options.preset not in known:
            print(f"{name} is left out: it has no preset {options.preset}")
            continue
        seeds = options.seeds or known[options.preset]
        try:
            found[name] = entries_of(module.configurations, options.preset, seeds, options.link)
        except NoRate as error:
            print(f"{name} is left out: {error}")
    return found


def missing(entries: dict[str, Runs], store: RunStore) -> Runs:
    """Every run that the store lacks, once, under the first experiment that wants it."""
    tasks = {}
    for name, runs in entries.items():
        for label, seed, config in runs:
            record = config.record()
            if (stem := store.stem(record)) not in tasks and store.load(record) is None:
                tasks[stem] = f"{name}: {label}", seed, config
    return list(tasks.values())


class Clock:
    """Seconds that a run will take: the median of complete runs of its kind, or a rate until there is one."""

    def __init__(self, store: RunStore):
        self.known: dict[tuple, list[float]] = {}
        for run in store.runs():
            if seconds := run.meta.get("extra", {}).get("seconds_total"):
                self.add(run.config, seconds)

    @staticmethod
    def kind(config: dict) -> tuple:
        names = ("dataset", "model", "train_images", "test_images", "epochs", "eval_every", "workers", "batch")
        return tuple(config.get(name) for name in names)

    def add(self, config: dict, seconds: float) -> None:
        self.known.setdefault(self.kind(config), []).append(seconds)

    def __call__(self, config: RunConfig) -> float:
        if known := self.known.get(self.kind(config.record())):
            return float(np.median(known))
        train = config.train_images or (1437 if config.dataset == "digits" else 50000)
        test = (config.test_images or 10000) * (config.workers + 1) / 3  # no backward pass
        tests = -(-config.epochs // config.eval_every)
        return (config.epochs * train + tests * test) / RATES.get(config.model, 1000)


def summary(entries, store: RunStore, clock: Clock, jobs: int) -> str:
    """A line per experiment, runs complete and left, and the time that the runs not yet counted will take."""
    lines, counted = [], set()
    for name, runs in entries.items():
        left = [config for _, _, config in runs if store.load(config.record()) is None]
        new = {store.stem(config.record()): config for config in left}
        seconds = sum(clock(config) for stem, config in new.items() if stem not in counted)
        counted |= set(new)
        share = f"{len(runs) - len(left)} of {len(runs)} runs"
        lines.append(f"  {name:16s} {share:>20s}   " + (f"{duration(seconds / jobs):>10s} to go" if left else ""))
    return "\n".join(line.rstrip() for line in lines)


def main(session: Session) -> None:
    p = parser(__doc__, None, jobs=True)
    p.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS, metavar="EXPERIMENT",
                   help=f"some of: {', '.join(EXPERIMENTS)} (default: all)")  # fmt: skip
    p.add_argument("--list", action="store_true", help="say what is complete and what is left, and train nothing")
    options = p.parse_args()
    if launched() > 1:
        raise ConfigError("every process of a launcher would train all of this: start it without, with --jobs")
    how = execution(options)
    if how.time_limit is not None:
        raise ConfigError("--time-limit stops one run at a time: give it to the script of an experiment")
    store = RunStore(how.results)
    entries = plan([name for name in EXPERIMENTS if name in options.only], options)
    clock = Clock(store)
    print(f"preset {options.preset}, results in {how.results}\n{summary(entries, store, clock, how.jobs)}")
    tasks = missing(entries, store)
    left = sum(clock(config) for _, _, config in tasks)
    print(f"{len(tasks)} runs to train, about {duration(left / how.jobs)} in {how.jobs} process(es)", flush=True)
    if options.list:
        return
    from aldsgd.world import join
    from experiments.runner import absent, check, prepare_process

    with join(how.device, how.timeout) as world:
        prepare_process(how, world)
    absent(store, [entry for runs in entries.values() for entry in runs], how)
    for config in {config.dataset: config for _, _, config in tasks}.values():
        check(config, how)
    try:
        train(tasks, clock, how)
    finally:
        write_lists(entries, store, options.preset)


def write_lists(entries: dict[str, Runs], store: RunStore, preset: str) -> None:
    """List the runs of every experiment that has a complete one, so that its table and figure can be made; a list of a
    larger preset stays."""
    for name, runs in entries.items():
        if larger := larger_listed(store.root, name, preset):
            print(f"{name}: still lists preset {larger}")
        elif any(store.load(config.record()) is not None for _, _, config in runs):
            conditions = conditions_of(import_module(f"experiments.{name}").configurations, preset)
            listed = [(label, seed, config.record()) for label, seed, config in runs]
            write_experiment(store.root, name, preset, listed, conditions)


def train(tasks: Runs, clock: Clock, how) -> None:
    """Train ``tasks`` in worker processes, saying what is left. Raises ConfigError at the end where some failed."""
    from experiments.runner import pooled, refuse_failed

    ended, left = [], sum(clock(config) for _, _, config in tasks)
    for task, seconds, error in pooled(tasks, how):
        ended.append((task, error))
        left -= clock(task[2])
        if error is None:
            clock.add(task[2].record(), seconds)
        print(f"[{len(ended)}/{len(tasks)}] about {duration(max(left, 0) / how.jobs)} left", flush=True)
    refuse_failed(ended)


if __name__ == "__main__":
    command(main)
