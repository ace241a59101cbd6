"""Claim: the paper's experiments, all of them, on one GPU: the exact runs, most telling first.

What:     the released code's setting (8 workers, batch 16, 200 epochs), all workers tested after every epoch, in the
          order of STAGES: CIFAR-10 at 53.8 % and one seed; 100 % likewise and MATCHA; five seeds of both; 38.5 %;
          CIFAR-100; WRN-28-10.
Command:  python -m experiments.paper_grid --device cuda --data DIR                   everything that the store lacks
          python -m experiments.paper_grid --list                                    the runs, and the minutes each took
          python -m experiments.paper_grid --device cuda --stages 1 --time-limit 500  a part; run it again to go on
Hardware: one GPU of the H200's class. No run has been measured on one yet; the minutes come from the store's CSVs.
Expect:   5 minutes or less a run of the narrow ResNet-50. ``--precision tf32`` or ``bf16`` makes other runs, which
          count only where ``--compare`` finds their accuracies inside the paired interval of 3 float32 seeds or more.

Needs torch, torchvision, NumPy, SciPy, pandas, networkx and tqdm; MATCHA also cvxpy, unless ``--prepare`` has solved
its weights before and the cache folder came along.
"""

import argparse
from dataclasses import dataclass

from aldsgd.cache import cache_dir
from aldsgd.errors import ConfigError
from aldsgd.listings import write_experiment
from aldsgd.records import CLOCK_COLUMNS, Run, RunStore
from baselines.registry import VARIANTS
from experiments.command import Session, command
from experiments.configuration import RunConfig, linked
from experiments.options import execution, parser

#: The released code's setting, with a test of every worker after every epoch.
CIFAR10 = RunConfig(
    dataset="cifar10", model="resnet50_narrow", augment=True, graph="paper:53.8",
    lr=0.4, lr_drops=((100, 0.1), (150, 0.1)), epochs=200,
)  # fmt: skip
SMOKE = RunConfig(
    dataset="digits", model="resnet_small", train_images=128, test_images=50, bn_images=64, batch=8,
    lr=0.1, epochs=2, graph="paper:53.8",
)  # fmt: skip
FOUR = ("D-PSGD (released schedule)", "D-PSGD", "AL-DSGD on D-PSGD", "AL-DSGD, three graphs")
FIVE = (*FOUR, "MATCHA")
#: The graphs of 38.5 % leave workers apart, which D-PSGD and MATCHA refuse unless told that it is meant.
APART = {"graph": "paper:38.5", "disconnected": True}
COMPARED = ("worst_accuracy", "mean_accuracy", "averaged_accuracy")


@dataclass(frozen=True)
class Stage:
    """Some runs of the grid: methods on one setting, for some seeds."""

    title: str
    methods: tuple[str, ...]
    changes: dict
    seeds: tuple[int, ...]


STAGES = (
    Stage("CIFAR-10, 53.8 %", FOUR, {}, (0,)),
    Stage("CIFAR-10, 100 % A", FIVE, {"graph": "paper:100"}, (0,)),
    Stage("CIFAR-10, 53.8 %", FIVE, {}, (0, 1, 2, 3, 4)),
    Stage("CIFAR-10, 100 % A", FIVE, {"graph": "paper:100"}, (1, 2, 3, 4)),
    Stage("CIFAR-10, 38.5 %", FIVE, APART, (0, 1, 2, 3, 4)),
    Stage("CIFAR-100, 53.8 %", FIVE, {"dataset": "cifar100"}, (0, 1, 2, 3, 4)),
    Stage("CIFAR-100, WRN-28-10, 53.8 %", FIVE, {"dataset": "cifar100", "model": "wrn28_10"}, (0, 1, 2, 3, 4)),
)

#: (stage counted from 1, label, configuration), each run once.
Line = tuple[int, str, RunConfig]


def grid(preset: str, precision: str = "float32") -> list[Line]:
    """Every run in order. Raises ConfigError for a preset other than smoke and paper."""
    if preset not in ("smoke", "paper"):
        raise ConfigError(f"the grid is the paper's setting and has no preset {preset}; use smoke or paper")
    found, seen = [], set()
    for number, stage in enumerate(STAGES, 1):
        for seed in stage.seeds:
            for label in stage.methods:
                base = CIFAR10.but(**stage.changes)
                if preset == "smoke":
                    base = SMOKE.but(graph=base.graph, disconnected=base.disconnected)
                config = base.but(**VARIANTS[label].changes, precision=precision, seed=seed)
                if preset == "smoke" and (number > 2 or seed):
                    continue
                if config.key not in seen:
                    seen.add(config.key)
                    title = f"{preset}, {config.graph}" if preset == "smoke" else stage.title
                    found.append((number, f"{title}: {label}", config))
    return found


def minutes(run: Run | None) -> float | None:
    """How long a run took by its own clocks, over all sessions that it was cut into; None unless on a GPU."""
    if run is None or run.meta["environment"]["hardware"]["device"] is None:
        return None
    return float(run.network[list(CLOCK_COLUMNS)].iloc[-1].sum()) / 60


def listing(lines: list[Line], store: RunStore, options: argparse.Namespace) -> str:
    """The grid as a table: the command of each stage, its runs, the minutes each took and where, its accuracies."""
    out, stage = [f"{'run':58s} {'seed':>4s} {'precision':9s} {'minutes':>12s}  {'worst':>6s} {'average':>7s}  on"], 0
    for number, label, config in lines:
        if number != stage:
            stage = number
            out.append(f"stage {stage}: python -m experiments.paper_grid --device cuda --data DIR --stages {stage}")
        run = store.load(linked(config, options.link).record())
        took = minutes(run)
        end = None if run is None else run.network.iloc[-1]
        ended = f"{'':>6s} {'':>7s}" if run is None else f"{end.worst_accuracy:6.4f} {end.averaged_accuracy:7.4f}"
        device = "" if run is None else run.meta["environment"]["hardware"]["device"] or "cpu"
        shown = "not measured" if took is None else f"{took:.1f}"
        out.append(f"{label:58s} {config.seed:4d} {config.precision:9s} {shown:>12s}  {ended}  {device}")
    return "\n".join(out)


def comparison(lines: list[Line], precision: str, store: RunStore, options: argparse.Namespace) -> str:
    """Final accuracies in ``precision`` minus float32, paired by seed, for each configuration with 3 pairs or more."""
    from aldsgd.statistics import paired_interval

    def ends(config: RunConfig):
        run = store.load(linked(config, options.link).record())
        return None if run is None else run.network.iloc[-1]

    pairs: dict[str, list] = {}
    for _, label, config in lines:
        one, two = ends(config.but(precision="float32")), ends(config.but(precision=precision))
        if one is not None and two is not None:
            pairs.setdefault(label, []).append((one, two))
    out = []
    for label, found in pairs.items():
        if len(found) < 3:
            out.append(f"{label}: {len(found)} pairs of seeds, 3 are needed")
            continue
        for column in COMPARED:
            interval = paired_interval([two[column] for _, two in found], [one[column] for one, _ in found])
            inside = "contains 0" if abs(interval.mean) <= interval.half_width else "EXCLUDES 0"
            out.append(
                f"{label}: {column} {interval.mean:+.4f} ± {interval.half_width:.4f} ({len(found)} seeds) {inside}"
            )
    return "\n".join(out) or f"no run of the grid exists in float32 and in {precision} with the same seed"


def prepare_weights(lines: list[Line]) -> str:
    """Solve MATCHA's weights of the whole grid, so that the cache folder serves a machine without cvxpy."""
    for _, _, config in lines:
        if config.method == "matcha":
            config.algorithm(steps_per_epoch=1)
    return f"solved; copy {cache_dir() / 'matcha'} to the same folder of the other checkout"


def main(session: Session) -> None:
    p = parser(__doc__, None, preset="paper")
    p.add_argument("--stages", type=int, nargs="+", default=None, metavar="STAGE", help="these stages alone, from 1")
    p.add_argument("--precision", choices=("float32", "tf32", "bf16"), default="float32",
                   help="arithmetic of all runs (default: float32, the reference)")  # fmt: skip
    p.add_argument("--list", action="store_true", help="print the grid and what is known of it, train nothing")
    p.add_argument("--prepare", action="store_true", help="solve MATCHA's weights (needs cvxpy), train nothing")
    p.add_argument("--compare", choices=("tf32", "bf16"), help="compare the store's runs with float32, train nothing")
    options = p.parse_args()
    how = execution(options)
    lines = grid(options.preset, options.compare or options.precision)
    if options.stages is not None:
        if not all(1 <= stage <= len(STAGES) for stage in options.stages):
            raise ConfigError(f"--stages are numbers from 1 to {len(STAGES)}")
        lines = [line for line in lines if line[0] in options.stages]
    if options.seeds is not None:
        lines = [line for line in lines if line[2].seed in options.seeds]
    if not lines:
        raise ConfigError("no run of the grid has these stages and seeds; see --list")
    store = RunStore(how.results)
    if options.prepare:
        return print(prepare_weights(lines))
    if options.compare:
        return print(comparison(lines, options.compare, store, options))
    if not options.list:
        from experiments.runner import train_missing

        store = train_missing(session, "paper_grid", entries(lines, options.link), how)
        done = [e for e in entries(grid(options.preset), options.link) if store.load(e[2].record()) is not None]
        if done:
            write_experiment(how.results, "paper_grid", options.preset, [(la, s, c.record()) for la, s, c in done])
    print(listing(lines, store, options))


def entries(lines: list[Line], link: str | None) -> list[tuple[str, int, RunConfig]]:
    """(label, seed, configuration) of lines of the grid."""
    return [(label, config.seed, linked(config, link)) for _, label, config in lines]


if __name__ == "__main__":
    command(main)
