"""How flat the minima are that each method reaches, and whether its workers share one: from ``experiments.flat``."""

from pathlib import Path

from aldsgd.statistics import Interval, mean_interval, paired_by_seed, verdict
from aldsgd.theory import records
from tables.base import REFERENCE, Cell, Estimate, Table, table

#: Column -> title.
COLUMNS = {
    "curvature": "largest curvature",
    "rise": "rise of the loss in random directions",
    "barrier_before": "barrier at the start",
    "barrier": "barrier at the end",
    "apart": "distance of the furthest two",
    "loss": "training loss of the mean",
}


def flat(root: Path) -> Table:
    """One row a method. Raises ConfigError, naming the command, where the script has not been run."""
    record, frames = records.read(root, "flat")
    rows, found = frames["flat"], []
    values = {
        (name, column): dict(zip(own["seed"], own[column], strict=True))
        for name, own in rows.groupby("method", sort=False)
        for column in COLUMNS
    }
    for name in dict.fromkeys(rows["method"]):
        cells = {title: shown(mean_interval(list(values[name, c].values()))) for c, title in COLUMNS.items()}
        less = {
            f"{title}, less {REFERENCE}'s": difference(
                None if name == REFERENCE else paired_by_seed(values[name, c], values[REFERENCE, c])
            )
            for c, title in list(COLUMNS.items())[:2]
        }
        found.append({"flat": name, "seeds": Cell(int((rows["method"] == name).sum())), **cells, **less})
    caption = (
        f"flat: preset {record['preset']}, identical workers, at the mean of the workers; barrier: the highest point "
        "of the straight way between the two workers furthest apart above the line between its ends, in training loss; "
        "distance relative to their norms. Mean ± half-width of the 95 % Student-t interval over seeds; better is less "
        "curvature, and less rise; where a barrier is left, the mean lies between basins, and its flatness is no "
        "merit." + " Preset smoke: no conclusion may be drawn." * (record["preset"] == "smoke")
    )
    return table(caption, found)


def shown(interval: Interval) -> Estimate:
    return Estimate(interval, lambda i: f"{i.mean:.3g} ± {i.half_width:.2g}")


def difference(interval: Interval | None) -> Estimate:
    return Estimate(interval, lambda i: f"{i.mean:+.3g} ± {i.half_width:.2g} {verdict(i, False)}".rstrip(), missing="")
