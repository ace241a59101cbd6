"""What faulty workers cost the honest ones, and whether leaders make it worse."""

from collections.abc import Mapping
from pathlib import Path

from aldsgd.runs import Run
from aldsgd.statistics import MIN_PAIRS, Interval, mean_interval, paired_by_seed
from baselines.registry import variant_of
from experiments.faults import LIES
from tables.base import LED, PERCENT, REFERENCE, Cell, Table, caption, table, words
from tables.query import Experiment, Runs

#: Points within which an interval refutes that there is a difference.
NEAR = 1.0

#: (method, fault, place, defence) -> runs.
Cells = Mapping[tuple[str, str, str, str], Runs]


def cells(runs: Experiment) -> Cells:
    """(method, fault, place, defence) -> runs; place "" where nobody is faulty."""
    found = {}
    for label in runs.labels:
        own = runs.of(label)
        config = {name: value for name, value in own[0].run.config.items() if name != "judge"}  # that is a defence
        fault, *place, defence = (own[0].named or f"{config.get('fault') or 'no fault'}, none").split(", ")
        found[variant_of(config), fault, *(place or [""]), defence] = own
    return found


def honest(run: Run, faulty, which: str = "mean") -> float:
    """Final accuracy of the mean or the worst of the workers that are not ``faulty``."""
    last = run.final_workers
    found = last.loc[~last["worker"].isin(faulty), f"test_{run.metrics[0]}"]
    return float(found.mean(skipna=False) if which == "mean" else found.min(skipna=False))


def ends(runs: Runs, faulty, which: str = "mean") -> dict[int, float]:
    return {seed: honest(run, faulty, which) for seed, run in runs.by_seed.items()}


def losses(known: Cells, method: str, fault: str, place: str, defence: str) -> dict[int, float]:
    """seed -> what the mean honest worker has less than the same workers under the same method with neither fault nor
    defence; empty where one of the two was not run."""
    own, clean = known.get((method, fault, place, defence)), known.get((method, "no fault", "", "none"))
    if not own or not clean or own.labels == clean.labels:
        return {}
    faulty = own[0].run.config.get("faulty") or ()
    before, after = ends(clean, faulty), ends(own, faulty)
    return {seed: before[seed] - after[seed] for seed in set(before) & set(after)}


def extra(known: Cells, fault: str, place: str = "one high", defence: str = "none") -> Interval | None:
    """E: what AL-DSGD on D-PSGD loses to a fault, less what D-PSGD loses to it, paired by seed."""
    return paired_by_seed(*(losses(known, method, fault, place, defence) for method in (LED, REFERENCE)))


def verdict_of(found: Interval | None) -> str:
    """Confirmed where E lies above 0, refuted where it lies below 0 or within a point of it, open otherwise."""
    if found is None or found.n < MIN_PAIRS:
        return "open"
    if found.low > 0:
        return "confirmed"
    return "refuted" if found.high < 0 or max(-found.low, found.high) < NEAR / 100 else "open"


def verdict(found: Mapping[str, Interval | None]) -> str:
    """Of the claim as a whole: what two of the three lies are."""
    each = [verdict_of(interval) for interval in found.values()]
    return next((name for name in ("confirmed", "refuted") if each.count(name) >= 2), "open")


def faults(root: Path, name: str) -> Table:
    """One row a label: the honest workers, what they lose, and that less D-PSGD's loss under the same fault."""
    runs, rows = Experiment(root, name), []
    known = cells(runs)
    for (method, fault, place, defence), own in known.items():
        faulty = own[0].run.config.get("faulty") or ()
        lost = losses(known, method, fault, place, defence)
        plain = losses(known, REFERENCE, fault, place, defence) if method != REFERENCE else {}
        led = [run.meta["extra"].get("faults", {}).get("led_near") for run in own.by_seed.values()]
        rows.append(
            {
                name: own[0].label,
                "seeds": Cell(len(own)),
                "worst honest": PERCENT.show(mean_interval(list(ends(own, faulty, "worst").values()))),
                "mean honest": PERCENT.show(mean_interval(list(ends(own, faulty).values()))),
                "mean lost": PERCENT.show(interval_of(lost)),
                f"lost more than by {REFERENCE}": PERCENT.show(paired_by_seed(lost, plain)),
                "liar leads (%)": Cell(None if None in led else 100 * sum(led) / len(led), "{:.0f}".format),
            }
        )
    lies = {fault: extra(known, fault) for fault in LIES}
    shown = "; ".join(f"{fault} {PERCENT.show(found)} ({verdict_of(found)})" for fault, found in lies.items() if found)
    note = (
        "Accuracy of the workers that are not faulty. Lost: the same workers under the same method with neither fault "
        "nor defence, less this; without a fault it is what the defence costs. Lost more: less what D-PSGD loses to "
        "the same fault at the same place under the same defence. The liar leads: share of the steps in which an "
        "honest worker, if it hears the liar, follows it. One or two faulty workers at the places of the highest or "
        f"lowest degree. Leaders are a security hole: {verdict(lies)}; {LED} loses more than {REFERENCE} to one liar, "
        f"in points: {shown or 'not measured'}."
    )
    return table(caption(runs, note, words(PERCENT)), rows)


def interval_of(values: Mapping[int, float]) -> Interval | None:
    return mean_interval(list(values.values())) if values else None
