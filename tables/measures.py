"""What is measured about each of the paper's claims: differences of methods, and the most that could have been seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aldsgd.graphs import parse_set
from aldsgd.paper_graphs import PAPER
from aldsgd.statistics import MIN_PAIRS, Interval, over_seeds, paired_by_seed, verdict
from aldsgd.theory import records
from experiments.rates import OWN_RATES, SHARED
from experiments.scales import TWICE
from tables.base import UNKNOWN, scaled
from tables.compared import RELEASED
from tables.experiments import target_of
from tables.links import at_equal_bytes, first_reached
from tables.primary import NO_GAIN, ON_MATCHA, ONE, THREE, gain_of_leaders, unseen
from tables.query import Experiment, Runs, Unmeasured

#: Problems of ``experiments.theory_rate``, in words.
PROBLEMS = {"quadratics": "quadratics with additive noise", "logistic": "non-convex logistic regression"}


@dataclass(frozen=True)
class Measure:
    """One measured quantity: its difference to D-PSGD (or the core named) and to the released schedule.

    ``unit`` follows the numbers; ``shown`` replaces intervals where counting, not sampling, gives the answer.
    ``ceiling``: what all-reduce, which mixes perfectly, gains over the same reference. ``gain``: where the difference
    is of gains, the one that must be a gain, since a smaller loss is none.
    """

    what: str
    real: Interval | None
    released: Interval | None
    higher_is_better: bool = True
    unit: str = "points"
    claimed: tuple[float, float] | None = None
    shown: str = ""
    counted: bool | None = None
    ceiling: Interval | None = None
    gain: Interval | None = None

    @property
    def unseen(self) -> bool:
        """Whether the claim lies above the most that could have been seen."""
        return (
            self.claimed is not None and self.ceiling is not None and unseen(self.claimed[0], scaled(self.ceiling, 100))
        )


def word_of(measure: Measure, interval: Interval | None, preset: str | None) -> str:
    """One comparison in a word, whatever the preset."""
    if preset is None or (interval is None and measure.counted is None):
        return UNKNOWN
    if preset not in ("theory", "cpu", "mid", "paper"):
        return "no conclusion"
    if measure.counted is not None:
        return "yes" if measure.counted else "no"
    if interval.n < MIN_PAIRS:
        return "open"
    word = verdict(interval, measure.higher_is_better) or "no difference shown"
    none = measure.gain is not None and verdict(measure.gain, measure.higher_is_better) != "better"
    return NO_GAIN if none and word == "better" else word


def judge(measure: Measure, interval: Interval | None, preset: str | None) -> str:
    """What one comparison says about its claim; "holds" and "does not hold" from preset paper alone."""
    word = word_of(measure, interval, preset)
    if word == UNKNOWN:
        return word
    if word == "no conclusion":
        return f"{preset}: {word}"
    if word == "open":
        return f"open: {interval.n} of {MIN_PAIRS} seeds"
    if preset == "theory":
        return "yes, with 8 workers" if word == "yes" else word
    if preset == "paper":
        return "holds" if word in ("better", "yes") else "does not hold"
    unseen = measure.unseen and word != "better"
    return f"at {preset} scale: {word}" + "; the claim could not have been seen" * unseen


def final(column: str, claimed: tuple[float, float]) -> Callable[[Mapping[str, Experiment]], list[Measure]]:
    """AL-DSGD less D-PSGD at the last epoch: on each data set, or at each choice of rates."""

    def measure(runs: Mapping[str, Experiment]) -> list[Measure]:
        measures = []
        for shown, source, points in parts(runs["final_accuracy"], claimed):
            plain, released = source.select(variant="D-PSGD"), source.select(variant=RELEASED)
            ceiling = source.select(variant="all-reduce").less(plain, column)
            for ours in (THREE, ONE):
                own = source.select(variant=ours)
                gaps = own.less(plain, column), own.less(released, column)
                measures.append(Measure(f"{ours}, {shown}", *gaps, claimed=points, ceiling=ceiling))
        return measures

    return measure


def parts(source: Experiment | Unmeasured, claimed: tuple[float, float]) -> list[tuple[str, Runs, tuple | None]]:
    """What is compared apart in ``final_accuracy``: in words, its runs, and the points claimed of it; choices of rates
    on one data set, or data sets."""
    rates = {"CIFAR-10, each at its own best rate": OWN_RATES, "CIFAR-10, all at D-PSGD's rate": SHARED}
    if source.preset == "mid":
        return [(shown, source.under(named), claimed) for shown, named in rates.items()]
    sets = {"CIFAR-10": ("cifar10", claimed), "CIFAR-100": ("cifar100", None)}
    return [(shown, source.select(dataset=name), points) for shown, (name, points) in sets.items()]


def sparse_gain(runs: Mapping[str, Experiment]) -> list[Measure]:
    """What leaders add to the worst worker on the same three graphs: sparse ones less the densest, and each alone."""
    sparsity = runs["sparsity"]
    found = {level: gain_of_leaders(sparsity, level) for level in PAPER}
    trained = [level for level in PAPER if found[level]]
    dense, *sparser = trained if len(trained) > 1 else PAPER
    common = set.intersection(*(set(found[level]) for level in sparser))
    sparse = {seed: float(np.mean([found[level][seed] for level in sparser])) for seed in common}
    many = f"mean gain at {sparser[0]} to {sparser[-1]} %" if len(sparser) > 1 else f"gain at {sparser[0]} %"
    larger = paired_by_seed(sparse, found[dense])
    return [
        Measure(f"{many}, less the gain at {dense} %", larger, None, gain=over_seeds(sparse)),
        *(Measure(f"gain at {level} %", over_seeds(own), None) for level, own in found.items() if own),
    ]


def neighbours(runs: Mapping[str, Experiment]) -> list[Measure]:
    """Different neighbours of a worker over three graphs, and the bytes that they cost."""
    measures = []
    for level in PAPER:
        own = runs["sparsity"].select(graph=f"paper:{level}")
        one, three = (own.select(family=ONE, graphs=k).values("megabytes") for k in (1, 3))
        seeds = sorted(set(one) & set(three))
        if not seeds:
            continue
        met = [len(pairs(f"paper:{level}", graphs)) / 4 for graphs in (1, 3)]  # 2 ends of an edge, 8 workers
        more = 100 * float(np.mean([three[seed] / one[seed] - 1 for seed in seeds]))
        measures.append(
            Measure(
                f"{level} %", None, None, unit="%",
                shown=f"{met[0]:.2f} to {met[1]:.2f} neighbours a worker, bytes {more:+z.2f} % ({len(seeds)} seeds)",
                counted=met[1] > met[0] and more < 0.5,
            )
        )  # fmt: skip
    return measures


def pairs(graph: str, graphs: int) -> set:
    """Pairs of workers that exchange at some time."""
    return {edge for one in parse_set(graph, graphs) for edge in one.edges}


@dataclass(frozen=True)
class Theory:
    """What a theory script recorded, in the place of an experiment."""

    frame: pd.DataFrame
    about: str
    preset: str = "theory"

    @classmethod
    def of(cls, root: Path) -> "Theory | Unmeasured":
        """The slopes of ``experiments.theory_rate``."""
        if records.described(root, "theory_rate") is None:
            return Unmeasured("theory_rate")
        record, frames = records.read(root, "theory_rate")
        about = "8 workers on the exponential graph; problems, constants and further numbers of workers: THEORY.md"
        return cls(frames["rate_slopes"], about) if record["preset"] != "smoke" else Unmeasured("theory_rate")


def slopes(runs: Mapping) -> list[Measure]:
    """How the squared gradient falls with the number of steps K at rates that fall as 1 / sqrt(K): -1/2 in theory."""
    source = runs["theory_rate"]
    if not isinstance(source, Theory):
        return []
    found = []
    rows = source.frame.query("along == 'K' and at == 8")
    for method in (ONE, "AL-DSGD, losses of a second draw", "D-PSGD"):
        for problem, shown in PROBLEMS.items():
            for row in rows[(rows["method"] == method) & (rows["problem"] == problem)].itertuples():
                text = f"slope {row.slope:.2f} ({row.low:.2f} to {row.high:.2f})"
                # Nearer to -1/2 than to 0, a floor, by the rule of THEORY.md.
                found.append(Measure(f"{method}, {shown}", None, None, shown=text, counted=row.high < -0.25))
    return found


def bytes_to_target(runs: Mapping[str, Experiment]) -> list[Measure]:
    """Bytes to the target of ``communication``, relative to D-PSGD's; less is better."""
    source = runs["communication"]
    spent: dict[str, dict[int, float]] = {}
    for label, seed, run, variant, _, condition, _ in source:
        target = target_of(source, label)
        if condition or np.isnan(target):  # on another graph, or D-PSGD, which sets the target, has not been run
            continue
        at = first_reached(run, target)
        spent.setdefault(variant, {})[seed] = np.nan if at is None else float(run.network["logical_bytes"].iloc[at])

    def saving(ours: str, theirs: str) -> Interval | None:
        a, b = spent.get(ours, {}), spent.get(theirs, {})
        seeds = sorted(set(a) & set(b))
        if not seeds or not np.isfinite([value for s in seeds for value in (a[s], b[s])]).all():
            return None
        return paired_by_seed({s: a[s] / b[s] for s in seeds}, dict.fromkeys(seeds, 1.0))

    def unreached(label: str) -> str:
        missed = int(np.isnan(list(spent.get(label, {}).values())).sum())
        return f"target not reached by {missed} of {len(spent[label])} seeds" if missed else ""

    return [
        Measure(ours, saving(ours, theirs), saving(ours, RELEASED), False, "% of the bytes", shown=unreached(ours))
        for ours, theirs in (
            (THREE, "D-PSGD"),
            (ONE, "D-PSGD"),
            (ON_MATCHA, "D-PSGD"),
            ("AL-DSGD, printed order", "D-PSGD"),
        )
        if ours in spent
    ] + equal_bytes(source)


def equal_bytes(source: Experiment | Unmeasured) -> list[Measure]:
    """Accuracy when as much has been sent: each method less MATCHA, which had twice the epochs for it.

    Methods on MATCHA send half as well, and would meet it at half its epochs, before its rate drops.
    """
    cheap, found = source.under(TWICE).select(variant="MATCHA"), []
    for ours in (THREE, ONE, "D-PSGD", "all-reduce") if cheap else ():
        own = source.under(OWN_RATES).select(variant=ours)
        gap = paired_by_seed(*at_equal_bytes(own.by_seed, cheap.by_seed))
        found.append(Measure(f"{ours}, less MATCHA at twice the epochs: mean worker at equal bytes", gap, None))
    return found


def sooner(runs: Mapping[str, Experiment]) -> list[Measure]:
    """Mean worker's accuracy averaged over the tested epochs."""
    pairs_ = (
        (THREE, "D-PSGD"), (THREE, "MATCHA"), (ONE, "D-PSGD"), (ONE, "MATCHA"), (ON_MATCHA, "MATCHA"),
        ("D-PSGD", "MATCHA"),  # of what is gained over MATCHA, the part that needs no leaders
    )  # fmt: skip
    # Rates are chosen for the end, and a larger one stands lower until it drops.
    shared = runs["final_accuracy"].under(SHARED)
    return [
        Measure(f"{ours}, less {theirs}{rates}", *against(source, ours, theirs, "area"))
        for source, rates in ((runs["convergence"], ""), (shared, ", all at D-PSGD's rate"))
        for ours, theirs in pairs_
        if source
    ]


def on_both(runs: Mapping[str, Experiment]) -> list[Measure]:
    """Each core with leaders less without."""
    return [
        Measure(f"{ours}, less {theirs}, {column} worker", *against(runs["convergence"], ours, theirs, column))
        for column in ("worst", "mean")
        for ours, theirs in ((ONE, "D-PSGD"), (ON_MATCHA, "MATCHA"))
    ]


def against(source: Runs, ours: str, theirs: str, column: str) -> tuple[Interval | None, Interval | None]:
    """Differences of one method to another, and, in the place of D-PSGD, to the released schedule."""
    own = source.select(variant=ours)
    released = own.less(source.select(variant=RELEASED), column) if theirs == "D-PSGD" else None
    return own.less(source.select(variant=theirs), column), released
