"""What the repository's own rule of who leads promises, F1 to F5, on seeds that its choice never saw."""

from pathlib import Path

from aldsgd.statistics import Interval
from experiments.proposal import PROPOSED
from tables.base import LED, REFERENCE, Table, largest, table
from tables.compared import mean_gain
from tables.measures import Measure, judge
from tables.primary import points
from tables.query import Experiment, Unmeasured, experiment

#: The bar where workers are alike, at equal bytes; and elsewhere.
BAR = (REFERENCE, "DSGD-AC", "DSGD-AC, Metropolis", "all-reduce")
PLACES = {
    "F3": ("Where workers are alike", "identical"),
    "F4": ("With 60 % wrong labels at four of eight", "noise at 4"),
    "F5": ("Under Dirichlet skew 0.1", "skew 0.1"),
}


def less_best(runs: Experiment | Unmeasured, condition: str) -> tuple[str, Interval | None]:
    """(the best of the bar under a condition, by its mean over seeds; the proposal's worst worker less that one's)."""
    own = runs.under(condition)
    found = {name: own.select(variant=name).interval("worst") for name in BAR}
    known = {name: interval.mean for name, interval in found.items() if interval is not None}
    if not known:
        return "none", None
    rival = largest(known)
    return rival, own.select(variant=PROPOSED).less(own.select(variant=rival), "worst")


def promises(root: Path) -> Table:
    """One row a promise; without runs each is called not measured."""
    runs = experiment(root, "proposal")
    rows = []
    for name, text, against in (
        ("F1", "In the mean over the conditions its worst worker is better than D-PSGD's.", REFERENCE),
        ("F2", "In the mean over the conditions its worst worker is better than under the paper's rule.", LED),
    ):
        rows.append(row(f"{name}: {text}", against, mean_gain(runs, PROPOSED, against) if runs else None, runs))
    for name, (where, condition) in PLACES.items():
        best, gap = less_best(runs, condition)
        text = (
            f"{where} its worst worker is better than the best of D-PSGD, DSGD-AC (on either weights) and all-reduce."
        )
        rows.append(row(f"{name}: {text}", best, gap, runs))
    seeds = ", ".join(map(str, sorted({entry.seed for entry in runs})))
    caption = (
        f"What {PROPOSED} promises, on seeds that its choice never saw ({seeds or 'none yet'}); percentage points of "
        "test accuracy of the worst worker, paired by seed, mean ± half-width of the 95 % Student-t interval. On this "
        "graph all of them send the same bytes. The best of several is chosen on the same runs, against the proposal."
    )
    return table(caption, rows)


def row(promise: str, against: str, gap: Interval | None, runs) -> dict:
    """A line of the table."""
    return {
        "promise": promise,
        "against": against,
        "difference (points)": points(gap),
        "seeds": str(gap.n if gap else 0),
        "verdict": judge(Measure("", gap, None), gap, runs.preset),
        "command": "`python -m experiments.proposal --data DIR`",
    }
