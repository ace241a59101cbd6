"""The eight primary comparisons, named before the runs of preset mid were made, with Holm's correction over the eight.

Everything else that is compared is exploratory. Each is the mean over seeds of a paired difference, every method at its
own best rate (``experiments.rates``); p is that of the paired t test, two-sided. A word needs a corrected p below
LEVEL. The ceiling is what perfect mixing, all-reduce, gains over the same reference in the same runs: a claim above it
could not have been seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aldsgd.statistics import MIN_PAIRS, Interval, corrected, over_seeds, p_value, paired_by_seed, verdict
from experiments.rates import OWN_RATES
from experiments.scales import TWICE
from tables.base import Cell, Estimate, Table, plus_minus, scaled, table
from tables.links import at_equal_bytes
from tables.query import Experiment, Runs, Unmeasured, experiment

LEVEL = 0.05
ONE, THREE, ON_MATCHA = "AL-DSGD on D-PSGD", "AL-DSGD, three graphs", "AL-DSGD on MATCHA"
#: A difference of gains that is better because a loss is smaller.
NO_GAIN = "better, but no gain shown"
#: seed -> value of ours, and of theirs.
Pair = tuple[Mapping[int, float], Mapping[int, float]]
Source = Mapping[str, Experiment | Unmeasured]


@dataclass(frozen=True)
class Primary:
    """One comparison: which claim it tests, its words, the experiments it needs, what is compared, and the ceiling.

    claimed: the smallest gain claimed, a fraction. ceiling: as ``pair``, None where all-reduce was not run beside it.
    of_gains: ours and theirs are gains themselves, so that ours must be one for the word better.
    """

    name: str
    claim: str
    text: str
    experiments: tuple[str, ...]
    pair: Callable[[Source], Pair]
    ceiling: Callable[[Source], Pair] | None = None
    claimed: float | None = None
    of_gains: bool = False

    def difference(self, source: Source) -> Interval | None:
        """Ours less theirs; None where no seed is shared."""
        return paired_by_seed(*self.pair(source))

    def most(self, source: Source) -> Interval | None:
        """What all-reduce gains over the same reference."""
        return paired_by_seed(*self.ceiling(source)) if self.ceiling else None

    def gain(self, source: Source) -> Interval | None:
        """Ours, where it is a gain itself."""
        return over_seeds(self.pair(source)[0]) if self.of_gains else None


def last(name: str, ours: str, theirs: str, column: str) -> Callable[[Source], Pair]:
    """A column at the end of the runs at own rates, of two methods."""

    def pair(source: Source) -> Pair:
        runs = source[name].under(OWN_RATES)
        return tuple(runs.select(variant=label).values(column) for label in (ours, theirs))

    return pair


def sparse_less_dense(source: Source) -> Pair:
    """What leaders add to the same three graphs, worst worker: at 38.5 %, and at 100 %."""
    return gain_of_leaders(source["sparsity"], "38.5"), gain_of_leaders(source["sparsity"], "100")


def gain_of_leaders(sparsity: Runs, level: str) -> dict[int, float]:
    """seed -> the worst worker of AL-DSGD on three graphs of a level, less that of D-PSGD on the same."""
    cell = sparsity.select(graph=f"paper:{level}", graphs=3)
    ours, theirs = (cell.select(family=family).values("worst") for family in (ONE, "D-PSGD"))
    return {seed: ours[seed] - theirs[seed] for seed in set(ours) & set(theirs)}


def leaders_and_cheap_gossip(source: Source) -> Pair:
    """The mean worker at equal bytes: AL-DSGD with three graphs, and MATCHA, which sends half, at twice the epochs."""
    runs: Runs = source["communication"]
    ours, theirs = runs.under(OWN_RATES).select(variant=THREE), runs.under(TWICE).select(variant="MATCHA")
    return at_equal_bytes(ours.by_seed, theirs.by_seed)


PRIMARY = (
    Primary("P1", "C1", "averaged model, AL-DSGD with three graphs less D-PSGD", ("final_accuracy",),
            last("final_accuracy", THREE, "D-PSGD", "averaged"),
            last("final_accuracy", "all-reduce", "D-PSGD", "averaged"), 0.021),
    Primary("P2", "C2", "worst worker, AL-DSGD with three graphs less D-PSGD", ("final_accuracy",),
            last("final_accuracy", THREE, "D-PSGD", "worst"),
            last("final_accuracy", "all-reduce", "D-PSGD", "worst"), 0.055),
    Primary("P3", "C8", "worst worker, AL-DSGD on D-PSGD less D-PSGD", ("final_accuracy",),
            last("final_accuracy", "AL-DSGD on D-PSGD", "D-PSGD", "worst"),
            last("final_accuracy", "all-reduce", "D-PSGD", "worst")),
    Primary("P4", "C8", "worst worker, AL-DSGD on MATCHA less MATCHA", ("final_accuracy",),
            last("final_accuracy", "AL-DSGD on MATCHA", "MATCHA", "worst"),
            last("final_accuracy", "all-reduce", "MATCHA", "worst")),
    Primary("P5", "C3", "worst worker, what leaders add to the same three graphs: at 38.5 % less at 100 % (cnn)",
            ("sparsity",), sparse_less_dense, of_gains=True),
    Primary("P6", "C6", "mean worker at equal bytes, AL-DSGD with three graphs less MATCHA at twice the epochs",
            ("communication",), leaders_and_cheap_gossip),
    Primary("P7", "C7", "mean worker over the tested epochs, AL-DSGD with three graphs less D-PSGD", ("convergence",),
            last("convergence", THREE, "D-PSGD", "area"), last("convergence", "all-reduce", "D-PSGD", "area")),
    Primary("P8", "C2", "worst worker with Nesterov momentum and a cosine, AL-DSGD with three graphs less D-PSGD",
            ("momentum",), last("momentum", THREE, "D-PSGD", "worst"),
            last("momentum", "all-reduce", "D-PSGD", "worst")),
)  # fmt: skip


def needed(root: Path) -> Source:
    """The experiments that the comparisons need; those of another preset than mid count as not run."""
    found = {name: experiment(root, name) for name in sorted({n for one in PRIMARY for n in one.experiments})}
    return {name: runs if runs.preset == "mid" else Unmeasured(name) for name, runs in found.items()}


def unseen(claimed: float | None, most: Interval | None) -> bool:
    """Whether a claim (points) lies above the most (points) that could have been seen, measured with enough seeds."""
    return claimed is not None and most is not None and most.n >= MIN_PAIRS and most.high < claimed


def word(
    one: Primary, difference: Interval | None, p: float | None, most: Interval | None, gain: Interval | None = None
) -> str:
    """What a comparison says; gain: as from ``Primary.gain``."""
    if difference is None:
        return "not measured"
    if p is None:
        return f"open: {difference.n} of {MIN_PAIRS} seeds"
    said = ("better" if difference.mean > 0 else "worse") if p < LEVEL else "no difference shown"
    if said == "better" and gain is not None and verdict(gain) != "better":
        return NO_GAIN
    if said != "better" and unseen(one.claimed, most):
        said += "; the claim could not have been seen"
    return said


class Decision(NamedTuple):
    """What one comparison came to. p: Holm's, None with too few seeds; most: as from ``Primary.most``."""

    difference: Interval | None
    most: Interval | None
    p: float | None
    word: str


def decisions(source: Source) -> dict[Primary, Decision]:
    """Each of the eight, corrected over the eight."""
    differences = {one.name: one.difference(source) for one in PRIMARY}
    adjusted, found = corrected(differences), {}
    for one in PRIMARY:
        difference, most, p = differences[one.name], one.most(source), adjusted.get(one.name)
        found[one] = Decision(difference, most, p, word(one, difference, p, most, one.gain(source)))
    return found


def primary(root: Path) -> Table:
    """One row a comparison."""
    rows = []
    for one, (difference, most, p, said) in decisions(needed(root)).items():
        rows.append(
            {
                "comparison": f"{one.name} ({one.claim}): {one.text}",
                "seeds": Cell(difference.n if difference else 0),
                "difference (points)": points(difference),
                "claimed": Cell(one.claimed, lambda v: f"+{100 * v:.1f}"),
                "ceiling": points(most),
                "p": Cell(None if p is None else p_value(difference), "{:.3g}".format),
                "Holm's p": Cell(p, "{:.3g}".format),
                "verdict": said,
            }
        )
    caption = (
        "The eight primary comparisons, named before the runs. Preset mid: all of CIFAR-10, small networks, every "
        "method at its own best rate; percentage points of test accuracy, paired by seed, mean ± half-width of the "
        "95 % Student-t interval. The rates were not named: they were chosen anew after first results, from one grid "
        "and at all epochs, which moved verdicts (docs/found.md). Ceiling: all-reduce less the same reference. Better "
        f"and worse need Holm's p below {LEVEL}. No gain shown (worded after the runs): the difference is of gains, "
        "and the larger one's own interval, not corrected, does not lie above zero."
    )
    return table(caption, rows)


def then_and_now(root: Path) -> Table:
    """The comparisons that were first made at the rates of half the epochs, so and as they stand now."""
    first, now = Experiment(root, "half_rates"), needed(root)
    replaced = dict.fromkeys(("final_accuracy", "convergence", "sparsity"), first)
    then, told = decisions(now | replaced), decisions(now)
    rows = [
        {
            "comparison": f"{one.name}: {one.text}",
            "at rates of half the epochs": points(then[one].difference),
            "verdict then": then[one].word,
            "as they stand": points(told[one].difference),
            "verdict": told[one].word,
        }
        for one in PRIMARY
        if replaced.keys() & set(one.experiments)
    ]
    caption = (
        "The primary comparisons as they were first made, each method at its best rate of half the epochs, and as they "
        "stand, at the best of all epochs; points as in the table of the eight. Holm's correction is over the same "
        "eight, the two that are not here as they stand."
    )
    return table(caption, rows)


def points(interval: Interval | None) -> Estimate:
    """A difference in percentage points with its sign."""
    return Estimate(scaled(interval, 100), lambda i: plus_minus(i, "+"), missing="-")
