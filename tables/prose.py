"""Numbers inside sentences: a text holds each as ``<!-- = NAME -->1.5<!-- / -->``, and NAME says where it comes from.

``python paper_tables.py --into FILE`` writes them anew from the records, as it does the tables; a test finds numbers
that are not marked so. A name is one of ``Numbers.named`` or ``Numbers.claimed``, or a cell of a table, as
"TABLE | ROW | COLUMN". No mark begins a line: to Markdown that ends the paragraph.
"""

import re
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache, partial
from pathlib import Path

from aldsgd.errors import ConfigError
from aldsgd.statistics import Interval, corrected, paired_by_seed
from aldsgd.theory import records
from aldsgd.watching import duration
from experiments.proposal import PROPOSED
from tables import claims, primary
from tables.base import plus_minus, scaled
from tables.cost import seconds
from tables.measures import Measure
from tables.named import table
from tables.query import experiment

#: Workers that differ in ``heterogeneous``: rates two decades apart, and wrong labels.
RATES = ("lr rises with degree", "lr falls with degree")
NOISE = ("noise at 2", "noise at 4", "noise at 6")
LESS = "worst, less D-PSGD's"
#: Parts of preset mid, and the experiments that share the runs of each; a run counts for the first part that has it.
PARTS = {
    "the main table": ("final_accuracy", "convergence", "communication", "baseline_audit"),
    "the rates": ("own_rates",),
    "other graphs": ("sparsity",),
    "GroupNorm": ("groupnorm",),
    "momentum": ("momentum",),
    "one worker alone": ("alone",),
    "rates of half the epochs": ("half_rates",),
}
#: A number in a text: its name, and what stands there.
NUMBER = re.compile(r"<!-- = (.+?) -->(.*?)<!-- / -->", re.DOTALL)
THEORY = (
    "spectrum", "leader_mixing", "assumptions", "orders", "selection", "fading", "lsgd", "gossip", "lies",
    "staleness", "rate", "scaling",
)  # fmt: skip


class Numbers:
    """The numbers of one folder of results; each is computed when its text is asked for."""

    def __init__(self, root: Path | str):
        self.root = Path(root)
        self.table = lru_cache(partial(table, root=self.root))

    def text(self, name: str) -> str:
        """The text of a number. Raises ConfigError for an unknown one, or without its records."""
        if name.count(" | ") == 2:
            return str(self.cell(*name.split(" | ")))
        if name in self.named:
            return self.named[name]()
        if name in self.claimed:
            return self.claimed[name]()
        every = ", ".join((*self.named, *self.claimed))
        raise ConfigError(f"unknown number '{name}'; choose TABLE | ROW | COLUMN or one of: {every}")

    @cached_property
    def named(self) -> dict[str, Callable[[], str]]:
        """name -> what gives the text: of sentences of the README, and of how long the theory takes."""
        found = {}
        for what, kinds in (("rates", RATES), ("noise", NOISE)):
            for who in ("AL-DSGD on D-PSGD", "all-reduce"):
                rows = [f"{who}, {kind}" for kind in kinds]
                found[f"{what}: {who}"] = partial(self.span, "heterogeneous", rows, LESS)
        found["rotation at 38.5 %"] = self.rotation
        led = "AL-DSGD, three graphs"
        found["gain under momentum"] = partial(self.gain, "momentum", led, LESS)
        found["gain under momentum, first grid"] = partial(self.gain, "momentum", f"{led}, first grid", LESS)
        found["gain under momentum, D-PSGD's rate"] = partial(self.gain, "momentum", f"{led}, D-PSGD's rate", LESS)
        found["Holm's p under momentum, first grid"] = self.first_grid
        found["loss under skew"] = self.skew
        found["loss where all are alike"] = partial(self.loss, "judges", "AL-DSGD on D-PSGD, identical", LESS)
        found |= {f"rare class, {who}": partial(self.rare_class, who) for who in ("AL-DSGD", "D-PSGD", "difference")}
        found |= {f"bias kept, {who}": partial(self.bias_kept, who) for who in ("AL-DSGD", "AL-DSGD, fading")}
        found |= {f"F{k}": partial(self.promise, k) for k in range(1, 6)}
        found |= {"F3 to F5, all-reduce": self.all_reduce, "time of leaders that judge": self.judging}
        found |= {f"hours of {part}": partial(self.hours, part) for part in PARTS}
        found |= {f"time of theory_{name}": partial(self.processor, [name]) for name in THEORY}
        return found | {"time of the theory": partial(self.processor, THEORY)}

    @cached_property
    def claimed(self) -> dict[str, Callable[[], str]]:
        """name -> what gives the text: "C7", or "C7: MEASURE" for another measure than the leading one; for the
        other columns with ", released schedule", ", perfect mixing" or ", claimed" (points) behind it."""
        found, runs = {}, claims.needed(self.root)
        for claim in claims.CLAIMS:
            measures = claim.measure(runs)
            named = {claim.name: claims.leading(measures)} | {f"{claim.name}: {m.what}": m for m in measures}
            for name, measure in named.items() if measures else ():
                found[name] = partial(measured, measure, measure.real, measure.shown)
                found[f"{name}, released schedule"] = partial(measured, measure, measure.released)
                found[f"{name}, perfect mixing"] = partial(measured, measure, measure.ceiling)
                if measure.claimed:
                    found[f"{name}, claimed"] = partial(" to ".join, dict.fromkeys(map("{:g}".format, measure.claimed)))
        return found

    def cell(self, name: str, row: str, column: str):
        """A cell of a table. Raises ConfigError where there is none."""
        rows = self.table(name).rows
        found = rows[rows.iloc[:, 0].astype(str) == row]
        if len(found) != 1 or column not in rows:
            raise ConfigError(f"the table {name} has {len(found)} rows {row!r}, and columns: {', '.join(rows)}")
        return found.iloc[0][column]

    def span(self, name: str, rows: Iterable[str], column: str) -> str:
        """ "0.4 to 0.8", or "1.5": the least and the largest mean of some rows of a table."""
        means = [f"{self.cell(name, row, column).value.mean:.1f}" for row in rows]
        return " to ".join(dict.fromkeys((min(means, key=float), max(means, key=float))))

    def rotation(self) -> str:
        """What D-PSGD's worst worker gains from three graphs in turn at 38.5 %."""
        rows = self.table("sparsity").rows
        return str(rows[(rows["level"] == "38.5 %") & (rows["graphs"].astype(str) == "3")].iloc[0]["rotation alone"])

    def skew(self) -> str:
        """What AL-DSGD's mean worker loses to its core in each condition of ``skew``, the least and the most.

        Raises ConfigError unless they are eight, and all worse.
        """
        rows = self.table("skew").rows
        cells = rows.loc[rows["skew"].astype(str).str.startswith("AL-DSGD on D-PSGD"), "mean, less its core's"]
        if len(cells) != 8 or not all(str(cell).endswith(" worse") for cell in cells):
            raise ConfigError("AL-DSGD is not worse than its core in eight conditions of skew: reword the sentence")
        lost = sorted(-cell.value.mean for cell in cells)
        return f"{lost[0]:.1f} to {lost[-1]:.1f}"

    def gain(self, name: str, row: str, column: str) -> str:
        """A difference without the word behind it, "+2.03 ± 0.96"."""
        return plus_minus(self.cell(name, row, column).value, "+")

    def first_grid(self) -> str:
        """Holm's p of the comparison under momentum as it was first made, in the place of P8."""
        source = primary.needed(self.root)
        differences = {one.name: one.difference(source) for one in primary.PRIMARY}
        differences["P8"] = self.cell("momentum", "AL-DSGD, three graphs, first grid", LESS).value
        return f"{corrected(differences)['P8']:.3f}"

    def loss(self, name: str, row: str, column: str) -> str:
        """The negative of a difference, "0.14 ± 0.13"."""
        found = self.cell(name, row, column).value
        return plus_minus(Interval(-found.mean, found.half_width, found.n, found.level), "")

    def rare_class(self, who: str) -> str:
        """How often a method of ``theory_selection`` finds the rare class, on the complete graph."""
        points = records.read(self.root, "theory_selection")[1]["selection_points"]
        plain = points.query("graph == 'complete' and method == 'D-PSGD'").set_index("seed")
        led = points.query("graph == 'complete' and method == 'AL-DSGD'").set_index("seed")
        led = led[led["eta"].isin(plain["eta"])]
        if who == "difference":
            lost = paired_by_seed(dict(led["recall"]), dict(plain["recall"]))
            return f"{100 * lost.mean:+.1f} ± {100 * lost.half_width:.1f} points"
        return f"{100 * (led if who == 'AL-DSGD' else plain)['recall'].mean():.1f} %"

    def bias_kept(self, who: str) -> str:
        """How far from its core a rule of ``theory_fading`` rests at the lowest rate, of the way to the mixture's
        minimiser, on the complete graph."""
        rest = records.read(self.root, "theory_fading")[1]["fading_rest"]
        own = rest[(rest["problem"] == "rare class") & (rest["graph"] == "complete") & (rest["method"] == who)]
        return f"{100 * own[own['s'] == own['s'].min()]['share'].mean():.0f} %"

    def promise(self, k: int) -> str:
        """The difference of a promise of the repository's own rule."""
        return str(self.table("promises").rows.iloc[k - 1]["difference (points)"])

    def all_reduce(self) -> str:
        """By how many points all-reduce is better than that rule, the least and the most."""
        lost = [f"{-cell.value.mean:.1f}" for cell in self.table("promises").rows["difference (points)"][2:5]]
        return f"{min(lost, key=float)} to {max(lost, key=float)} points"

    def judging(self) -> str:
        """The modelled time of that rule in units of D-PSGD's."""
        own, plain = (
            self.cell("proposal", f"{who}, identical", "modelled s").value.mean for who in (PROPOSED, "D-PSGD")
        )
        return f"{own / plain:.1f} times"

    def hours(self, part: str) -> str:
        """Hours of one process, by the clock, of the runs of a part of preset mid."""
        taken: dict[str, tuple[str, float]] = {}
        for name, names in PARTS.items():
            for one in (experiment(self.root, each) for each in names):
                for entry in one if one.preset == "mid" else ():
                    taken.setdefault(entry.run.key, (name, seconds(entry.run)))
        return f"{sum(spent for name, spent in taken.values() if name == part) / 3600:.1f} hours"

    def processor(self, names: Iterable[str]) -> str:
        """Processor time of theory scripts together."""
        made = [records.read(self.root, f"theory_{name}")[0]["configuration"] for name in names]
        return duration(sum(each["cpu_seconds"] for each in made))


def measured(measure: Measure, interval: Interval | None, shown: str = "") -> str:
    """ "+1.22 ± 1.80 points"."""
    if interval is None or shown:
        return shown or "not measured"
    return f"{plus_minus(scaled(interval, 100), '+')} {measure.unit}"
