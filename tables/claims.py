"""CLAIMS.md: each claim of the paper, what was measured about it, and how far that carries. No number by hand.

The claims C1 to C8 and their sources are those of abstracts, an author's CV and public summaries; the paper's own
tables could not be read. "Holds" and "does not hold" come from preset paper alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aldsgd.graphs import parse_set
from aldsgd.paper_graphs import PAPER
from aldsgd.statistics import MIN_PAIRS, Interval, paired_by_seed, verdict
from tables.base import Estimate, Table, plus_minus, scaled, setting, table
from tables.compared import RELEASED
from tables.experiments import target_of
from tables.links import first_reached
from tables.query import Experiment, Runs, Unmeasured, experiment

ONE, THREE, ON_MATCHA = "AL-DSGD on D-PSGD", "AL-DSGD, three graphs", "AL-DSGD on MATCHA"


def on(runs: Experiment | Unmeasured) -> str:
    """On what it was measured, in words."""
    if not runs:
        return "nothing yet"
    share = "" if len(runs) == runs.listed else f" {len(runs)} of {runs.listed} runs are complete."
    return setting(runs) + share


@dataclass(frozen=True)
class Measure:
    """One measured quantity: its difference to D-PSGD (or the core named) and to the released schedule.

    ``unit`` follows the numbers; ``shown`` replaces intervals where counting, not sampling, gives the answer.
    """

    what: str
    real: Interval | None
    released: Interval | None
    higher_is_better: bool = True
    unit: str = "points"
    claimed: tuple[float, float] | None = None
    shown: str = ""
    counted: bool | None = None


@dataclass(frozen=True)
class Claim:
    """A claim, where it was found, the experiment that tests it, and how to measure it."""

    name: str
    text: str
    source: str
    experiment: str | None
    measure: Callable[[Mapping[str, Experiment]], list[Measure]]
    how: str
    also: tuple[str, ...] = ()

    @property
    def experiments(self) -> tuple[str, ...]:
        """Names of the experiments that it needs."""
        return (self.experiment, *self.also) if self.experiment else ()


def final(column: str, claimed: tuple[float, float]) -> Callable[[Mapping[str, Experiment]], list[Measure]]:
    """AL-DSGD less D-PSGD at the last epoch, on CIFAR-10 and CIFAR-100."""

    def measure(runs: Mapping[str, Experiment]) -> list[Measure]:
        measures = []
        for dataset, shown in (("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")):
            source = runs["final_accuracy"].select(dataset=dataset)
            plain, released = source.select(variant="D-PSGD"), source.select(variant=RELEASED)
            for ours in (THREE, ONE):
                own, range_ = source.select(variant=ours), claimed if dataset == "cifar10" else None
                gaps = own.less(plain, column), own.less(released, column)
                measures.append(Measure(f"{ours}, {shown}", *gaps, claimed=range_))
        return measures

    return measure


def sparse_gain(runs: Mapping[str, Experiment]) -> list[Measure]:
    """Gain of the worst worker on sparse graphs less that at 100 %, paired by seed."""
    sparsity, audit = runs["sparsity"], runs["baseline_audit"].select(start="different")

    def gain(ours: Runs, theirs: Runs) -> dict[int, float]:
        a, b = ours.values("worst"), theirs.values("worst")
        return {seed: a[seed] - b[seed] for seed in set(a) & set(b)}

    def at(level: str) -> dict[int, float]:
        own = sparsity.select(graph=f"paper:{level}")
        return gain(own.select(family=ONE, graphs=3), own.select(family="D-PSGD", graphs=1))

    def released(level: str) -> dict[int, float]:
        own = audit.select(graph=f"paper:{level}")
        return gain(own.select(family=ONE, graphs=2), own.select(family=RELEASED, graphs=1))

    dense, *sparser = PAPER
    levels = [at(level) for level in sparser]
    common = set.intersection(*map(set, levels))
    sparse = {seed: float(np.mean([level[seed] for level in levels])) for seed in common}
    return [
        Measure(
            f"mean gain at {sparser[0]} to {sparser[-1]} %, less the gain at {dense} % (three graphs)",
            paired_by_seed(sparse, at(dense)),
            None,
        ),
        Measure(
            f"gain at 53.8 %, less the gain at {dense} % (three graphs; two against the released schedule)",
            paired_by_seed(at("53.8"), at(dense)),
            paired_by_seed(released("53.8"), released(dense)),
        ),
    ]


def neighbours(runs: Mapping[str, Experiment]) -> list[Measure]:
    """Different neighbours of a worker over three graphs, and the bytes that they cost."""
    measures = []
    for level in PAPER:
        own = runs["sparsity"].select(graph=f"paper:{level}")
        one, three = (own.select(family=ONE, graphs=k).values("megabytes") for k in (1, 3))
        seeds = sorted(set(one) & set(three))
        if not seeds:
            measures.append(Measure(f"{level} %", None, None, unit="%"))
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
    ]


def sooner(runs: Mapping[str, Experiment]) -> list[Measure]:
    """Mean worker's accuracy averaged over the tested epochs."""
    pairs_ = ((THREE, "D-PSGD"), (THREE, "MATCHA"), (ONE, "D-PSGD"), (ONE, "MATCHA"), (ON_MATCHA, "MATCHA"))
    return [
        Measure(f"{ours}, less {theirs}", *against(runs["convergence"], ours, theirs, "area"))
        for ours, theirs in pairs_
    ]


def on_both(runs: Mapping[str, Experiment]) -> list[Measure]:
    """Each core with leaders less without."""
    return [
        Measure(f"{ours}, less {theirs}, {column} worker", *against(runs["convergence"], ours, theirs, column))
        for column in ("worst", "mean")
        for ours, theirs in ((ONE, "D-PSGD"), (ON_MATCHA, "MATCHA"))
    ]


def against(source: Runs, ours: str, theirs: str, column: str) -> tuple[Interval | None, Interval | None]:
    """Differences of one method to another, and to the released schedule."""
    own = source.select(variant=ours)
    return tuple(own.less(source.select(variant=other), column) for other in (theirs, RELEASED))


CLAIMS = (
    Claim("C1", "The averaged model gains 2.1 points of test accuracy over the baseline, ResNet-50 on CIFAR-10.",
          "author's CV; a public summary says 2.1 to 5.5 %", "final_accuracy", final("averaged", (2.1, 2.1)),
          "test accuracy of the averaged model at the last epoch, AL-DSGD less D-PSGD"),
    Claim("C2", "The worst worker gains 5.5 to 5.8 points.", "author's CV: 5.8; a public summary: 5.5",
          "final_accuracy", final("worst", (5.5, 5.8)),
          "test accuracy of the worst worker at the last epoch, AL-DSGD less D-PSGD"),
    Claim("C3", "The gain is largest in sparse topologies and small in dense ones.", "public summary", "sparsity",
          sparse_gain, "the worst worker's gain over D-PSGD on one graph, on sparse graphs less on the 100 % graph",
          ("baseline_audit",)),
    Claim("C4", "The convergence rate is sublinear and matches the best known for decentralized SGD.",
          "abstract, public summary", None, lambda runs: [],
          "nothing: a rate is a statement about all numbers of steps, which no run of finite length shows"),
    Claim("C5", "Dynamic graphs reach more neighbours without more communication.", "abstract", "sparsity", neighbours,
          "different neighbours of a worker with one graph and with three, and the bytes sent; counted, not sampled"),
    Claim("C6", "AL-DSGD reduces communication overhead. (The paper did not measure it.)", "abstract, public summary",
          "communication", bytes_to_target,
          "logical bytes until the mean worker first reaches the target, relative to D-PSGD's (-10: a tenth less)"),
    Claim("C7", "AL-DSGD converges faster than D-PSGD and MATCHA per epoch.", "abstract", "convergence", sooner,
          "the mean worker's accuracy averaged over the tested epochs, higher when a method learns sooner"),
    Claim("C8", "AL-DSGD works on top of both D-PSGD and MATCHA.", "abstract", "convergence", on_both,
          "accuracy at the last epoch, with leaders less without, on each core"),
)  # fmt: skip


def judge(measure: Measure, interval: Interval | None, preset: str | None) -> str:
    """What one comparison says about its claim; "holds" and "does not hold" from preset paper alone."""
    if preset is None or (interval is None and measure.counted is None):
        return "not measured"
    if preset not in ("cpu", "paper"):
        return f"{preset}: no conclusion"
    if measure.counted is not None:
        word = "yes" if measure.counted else "no"
    elif interval.n < MIN_PAIRS:
        return f"open: {interval.n} of {MIN_PAIRS} seeds"
    else:
        word = verdict(interval, measure.higher_is_better) or "no difference shown"
    if preset == "paper":
        return "holds" if word in ("better", "yes") else "does not hold"
    return f"at cpu scale: {word}"


def only_released(measure: Measure, preset: str | None) -> str:
    """Whether the claim is borne out against the released schedule and not against D-PSGD."""
    words = [judge(measure, interval, preset) for interval in (measure.real, measure.released)]
    if measure.counted is not None or any(word.endswith(("not measured", "no conclusion")) for word in words):
        return "-"
    if any(word.startswith("open") for word in words):
        return "open"
    real, released = (word in ("holds", "at cpu scale: better") for word in words)
    return "yes" if released and not real else ("no" if real else "no, against neither")


def text_of(measure: Measure, interval: Interval | None) -> str:
    return str(cell_of(measure, interval))


def cell_of(measure: Measure, interval: Interval | None) -> Estimate:
    return Estimate(scaled(interval, 100), lambda i: f"{plus_minus(i, '+')} {measure.unit} (n = {i.n})", missing="-")


def covers(measure: Measure) -> str:
    """Whether the interval against D-PSGD reaches the claimed points; with too few seeds it would reach anything."""
    if measure.claimed is None or measure.real is None or measure.real.n < MIN_PAIRS:
        return "-"
    low, high = (100 * end for end in (measure.real.low, measure.real.high))
    return "yes" if low <= measure.claimed[1] and high >= measure.claimed[0] else "no"


def leading(measures: list[Measure]) -> Measure | None:
    """The measure that stands for a claim: the first that has been taken."""
    return next((m for m in measures if m.real is not None or m.shown), measures[0] if measures else None)


def commands(claim: Claim, preset: str | None) -> str:
    return ", ".join(
        f"`python -m experiments.{name} --preset {preset or 'cpu'} --data DIR`" for name in claim.experiments
    )


def section(claim: Claim, runs: Mapping[str, Experiment]) -> tuple[list[str], list[str]]:
    """(cells of the overview, lines of the section) of one claim."""
    source = runs[claim.experiment] if claim.experiment else None
    preset = source.preset if source else None
    measures = claim.measure(runs)
    first = leading(measures)
    verdicts = ("not measured", "-")
    if first is not None and preset is not None:
        verdicts = (f"{judge(first, first.real, preset)} ({first.what})", only_released(first, preset))
    cells = [claim.name, claim.text, *verdicts]
    lines = [f"## {claim.name}: {claim.text}", "", f"- Source: {claim.source}.", f"- Measured: {claim.how}."]
    if source is None:
        return cells, [*lines, "- Verdict: not measured."]
    lines += [
        f"- On: {on(source)}",
        f"- Command: {commands(claim, preset)}; then `python paper_tables.py --claims`.",
        "",
    ]
    head = ["measured", "against D-PSGD", "covers the claim", "verdict", "against the released schedule", "only there"]
    if claim.name in ("C7", "C8"):
        head[1] = "against the one named"
    table = [head, ["---"] * len(head)]
    for m in measures:
        table.append([m.what, m.shown or text_of(m, m.real), covers(m), judge(m, m.real, preset),
                      text_of(m, m.released), only_released(m, preset)])  # fmt: skip
    return cells, lines + ["| " + " | ".join(row) + " |" for row in table]


def needed(root: Path) -> dict[str, Experiment | Unmeasured]:
    """The runs of every experiment that some claim needs, by name."""
    return {name: experiment(root, name) for name in sorted({name for claim in CLAIMS for name in claim.experiments})}


def overview(root: Path) -> Table:
    """One row a claim: its leading measure against D-PSGD (or the core named), the released schedule; the command."""
    runs, rows = needed(root), []
    for claim in CLAIMS:
        first = leading(claim.measure(runs))
        preset = runs[claim.experiment].preset if claim.experiment else None
        rows.append(
            {
                "claim": f"{claim.name}: {claim.text}",
                "measured": first.what if first else "",
                "against D-PSGD, or the one named": first.shown or cell_of(first, first.real) if first else "-",
                "against the released schedule": cell_of(first, first.released) if first else "-",
                "verdict": judge(first, first.real, preset) if first else "not measured",
                "command": commands(claim, preset) or "-",
            }
        )
    caption = (
        "The paper's claims. Differences in percentage points of test accuracy where no unit is named, paired by seed, "
        "mean ± half-width of the 95 % Student-t interval. Every measure of each claim: CLAIMS.md."
    )
    return table(caption, rows)


def render(root: Path | str = "results") -> str:
    """CLAIMS.md as text, from the store alone. Claims without complete runs are called not measured."""
    root = Path(root)
    runs = needed(root)
    sections = [section(claim, runs) for claim in CLAIMS]
    lines = [
        "# What became of the paper's claims",
        "",
        "Written by `python paper_tables.py --claims` from the runs in `results/`; every number comes from a CSV. "
        "Differences are paired by seed, with 95 % Student-t intervals over seeds; the words better and worse need "
        f"{MIN_PAIRS} seeds and an interval that excludes zero. Holds and does not hold need the paper's own setting; "
        "what was measured on less says at which scale. Released schedule: what the authors' code runs as D-PSGD, "
        "two matchings in turn. Only there: borne out against that schedule, and not against D-PSGD.",
        "",
        "| | claim | verdict against D-PSGD | only against the released schedule |",
        "|---|---|---|---|",
        *("| " + " | ".join(cells) + " |" for cells, _ in sections),
    ]
    for _, body in sections:
        lines += ["", *body]
    return "\n".join(lines) + "\n"
