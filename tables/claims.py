"""CLAIMS.md: each claim of the paper, what was measured about it, and how far that carries. No number by hand.

The claims C1 to C8 and their sources are those of abstracts, an author's CV and public summaries; the paper's own
tables could not be read. "Holds" and "does not hold" come from preset paper alone. In preset mid eight comparisons,
named before the runs, decide (``tables.primary``); all that is here beside them is exploratory.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aldsgd.statistics import MIN_PAIRS, WHEN, Interval
from tables.base import UNKNOWN, Estimate, Table, markdown, plus_minus, scaled, setting, table
from tables.measures import (
    Measure,
    Theory,
    bytes_to_target,
    final,
    judge,
    neighbours,
    on_both,
    slopes,
    sooner,
    sparse_gain,
    word_of,
)  # fmt: skip
from tables.primary import needed as primary_needs
from tables.primary import primary
from tables.promises import promises
from tables.query import Experiment, Unmeasured, experiment


def on(runs: Experiment | Unmeasured) -> str:
    """On what it was measured, in words."""
    if isinstance(runs, Theory):
        return runs.about
    if not runs:
        return "nothing yet"
    share = "" if len(runs) == runs.listed else f" {len(runs)} of {runs.listed} runs are complete."
    return setting(runs) + share


@dataclass(frozen=True)
class Claim:
    """A claim, where it was found, the experiment that tests it, and how to measure it."""

    name: str
    text: str
    source: str
    experiment: str
    measure: Callable[[Mapping[str, Experiment]], list[Measure]]
    how: str


CLAIMS = (
    Claim("C1", "The averaged model gains 2.1 points of test accuracy over the baseline, ResNet-50 on CIFAR-10.",
          "author's CV; a public summary says 2.1 to 5.5 %", "final_accuracy", final("averaged", (2.1, 2.1)),
          "test accuracy of the averaged model at the last epoch, AL-DSGD less D-PSGD"),
    Claim("C2", "The worst worker gains 5.5 to 5.8 points.", "author's CV: 5.8; a public summary: 5.5",
          "final_accuracy", final("worst", (5.5, 5.8)),
          "test accuracy of the worst worker at the last epoch, AL-DSGD less D-PSGD"),
    Claim("C3", "The gain is largest in sparse topologies and small in dense ones.", "public summary", "sparsity",
          sparse_gain, "what leaders add to the worst worker on the same three graphs, sparse ones less the densest"),
    Claim("C4", "The convergence rate is sublinear and matches the best known for decentralized SGD.",
          "abstract, public summary", "theory_rate", slopes,
          "how the squared gradient at the mean model falls with the number of steps K, at rates that fall as "
          "1/sqrt(K): log-log slope, -1/2 where the claim holds, 0 at a floor; yes: nearer to -1/2; on problems of "
          "theory, not on networks"),
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


def only_released(measure: Measure, preset: str | None) -> str:
    """Whether there is a gain over the released schedule and none over D-PSGD."""
    words = [word_of(measure, interval, preset) for interval in (measure.real, measure.released)]
    if measure.counted is not None or {UNKNOWN, "no conclusion"} & set(words):
        return "-"
    if "open" in words:
        return "open"
    real, released = (word == "better" for word in words)
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
    if preset == "theory":
        return f"`python -m experiments.{claim.experiment}`"
    return f"`python -m experiments.{claim.experiment} --preset {preset or 'cpu'} --data DIR`"


def section(claim: Claim, runs: Mapping[str, Experiment]) -> tuple[list[str], list[str]]:
    """(cells of the overview, lines of the section) of one claim."""
    source = runs[claim.experiment]
    preset = source.preset
    measures = claim.measure(runs)
    first = leading(measures)
    verdicts = ("not measured", "-")
    if first is not None and preset is not None:
        verdicts = (f"{judge(first, first.real, preset)} ({first.what})", only_released(first, preset))
    cells = [claim.name, claim.text, *verdicts]
    lines = [f"## {claim.name}: {claim.text}", "", f"- Source: {claim.source}.", f"- Measured: {claim.how}."]
    lines += [
        f"- On: {on(source)}",
        f"- Command: {commands(claim, preset)}; then `python paper_tables.py --claims`.",
        "",
    ]
    head = ["measured", "against D-PSGD", "perfect mixing", "covers the claim", "verdict",
            "against the released schedule", "only there"]  # fmt: skip
    if claim.name in ("C7", "C8"):
        head[1] = "against the one named"
    rows = [[m.what, m.shown or text_of(m, m.real), text_of(m, m.ceiling), covers(m), judge(m, m.real, preset),
             text_of(m, m.released), only_released(m, preset)] for m in measures]  # fmt: skip
    return cells, lines + markdown([head, *rows])


def needed(root: Path) -> dict[str, Experiment | Unmeasured]:
    """The runs of every experiment that some claim needs, by name."""
    found = {name: experiment(root, name) for name in sorted({claim.experiment for claim in CLAIMS} - {"theory_rate"})}
    return found | {"theory_rate": Theory.of(root)}


def overview(root: Path) -> Table:
    """One row a claim: its leading measure against D-PSGD (or the core named), the released schedule; the command."""
    runs, rows = needed(root), []
    for claim in CLAIMS:
        first = leading(claim.measure(runs))
        preset = runs[claim.experiment].preset
        rows.append(
            {
                "claim": f"{claim.name}: {claim.text}",
                "measured": first.what if first else "",
                "against D-PSGD, or the one named": first.shown or cell_of(first, first.real) if first else "-",
                "against the released schedule": cell_of(first, first.released) if first else "-",
                "verdict": judge(first, first.real, preset) if first else "not measured",
                "command": commands(claim, preset),
            }
        )
    caption = (
        "The paper's claims. Differences in percentage points of test accuracy where no unit is named, paired by seed, "
        "mean ± half-width of the 95 % Student-t interval. Every measure of each claim: CLAIMS.md."
    )
    return table(caption, rows)


def captioned(found: Table) -> list[str]:
    """A table with its caption, as lines."""
    return [found.caption, "", *markdown(found.text)]


def decided(root: Path) -> bool:
    """Whether any of the primary comparisons has runs."""
    return any(primary_needs(root).values())


def render(root: Path | str = "results") -> str:
    """CLAIMS.md as text, from the store alone. Claims without complete runs are called not measured."""
    root = Path(root)
    runs = needed(root)
    sections = [section(claim, runs) for claim in CLAIMS]
    lines = [
        "# What became of the paper's claims",
        "",
        "Written by `python paper_tables.py --claims` from the runs in `results/`; every number comes from a CSV. "
        "Differences are paired by seed, with 95 % Student-t intervals over seeds; "
        f"{WHEN}; only the eight comparisons named before the runs are "
        "corrected for their number. Holds and does not hold need the paper's own setting; "
        "what was measured on less says at which scale. Released schedule: what the authors' code runs as D-PSGD, "
        "two matchings in turn. Only there: better than that schedule, and not than D-PSGD. Perfect mixing: "
        "what all-reduce gains over the same reference, the most that better mixing could give; a claim above it could "
        "not have been seen.",
        "",
        *(
            ["## Eight comparisons that were named before the runs", "", *captioned(primary(root)), ""]
            if decided(root)
            else []
        ),
        *markdown(
            [
                ["", "claim", "verdict against D-PSGD", "only against the released schedule"],
                *(cells for cells, _ in sections),
            ]
        ),  # fmt: skip
    ]
    for _, body in sections:
        lines += ["", *body]
    if experiment(root, "proposal"):
        lines += ["", "## What the repository's own rule of who leads promises", "", *captioned(promises(root))]
    return "\n".join(lines) + "\n"
