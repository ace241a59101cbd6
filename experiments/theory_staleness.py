"""Claim: staleness is what queues say, and a rule of age bounds how far old leaders drag the mean of the models back.

What:     (1) the closed forms of queues in aldsgd/theory/staleness.py, staleness at a server, gradients beside workers
          that wait, and the time of a step, against the engine of virtual time; (2) the bound that is derived there on
          how far an event of asynchronous AL-DSGD moves the mean of the models beyond its gradient, in every event of
          runs of the engine on quadratics, for every rule of age, slow workers and links with latency.
Command:  python -m experiments.theory_staleness
Hardware: one CPU core. Time: 3 minutes.
Expect:   the forms hold exactly where nothing is drawn, the bound in every event; without a rule of age the drag grows
          with the slowness of a worker.
"""

from bisect import bisect_right
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from aldsgd.algorithm import started
from aldsgd.asynchronous import Asynchronous
from aldsgd.clocks import Clock, ComputeTimes, SynchronousClock
from aldsgd.events import Events
from aldsgd.graphs import paper_graph
from aldsgd.links import AllReduce, Link
from aldsgd.local import LocalRule
from aldsgd.settings import Settings
from aldsgd.step import Exchange, Meter, Step
from aldsgd.theory.leaders import README
from aldsgd.theory.quadratics import Quadratics
from aldsgd.theory.staleness import geometric, harmonic, led, most_drag, others_staleness, speed_up
from baselines.async_aldsgd import AsynchronousALDSGD
from baselines.async_server import AsynchronousServer
from baselines.dpsgd import DPSGD
from experiments.command import command
from experiments.theory_common import parser, run

WORKERS = {"smoke": (4,), "cpu": (4, 8, 16)}
SLOWER = {"smoke": (5,), "cpu": (2, 5, 20)}
#: Periods of the slowest worker that are counted, after as many as a queue takes to settle.
PERIODS, SETTLED = 8, 2
#: Units with exponential times, and of a run on quadratics.
UNITS, LONG = {"smoke": 200, "cpu": 2000}, {"smoke": 30, "cpu": 60}
#: Units after which no gradient with exponential times is under way any more.
OVER = 60
LEVELS = {"smoke": ("53.8",), "cpu": ("100", "53.8")}
#: Rules of age with their limits.
RULES = {
    "smoke": (("none", 3.0), ("bound", 3.0), ("fade", 3.0)),
    "cpu": (("none", 3.0), *product(("bound", "fade"), (1.0, 3.0, 8.0))),
}
#: Times, how much slower one worker is, and latency in units.
CLOCKS = {
    "smoke": (("constant", 5.0, 2.5),),
    "cpu": (*product(("constant",), (1.0, 5.0, 20.0), (0.0, 2.5)), *product(("exponential",), (1.0, 5.0), (0.0,))),
}


def engine(kind: type[Events], method: Asynchronous, x, clock: Clock, seed: int, latency=0.0, gradients=None, lr=0.1):
    """An engine of workers and centres that start at x (n + c, P): plain steps at a rate, a unit a second."""
    n, state = method.n, started(method, torch.as_tensor(x, dtype=torch.float64).clone(), (len(x[0]),))
    movers = range(n, len(x)) if method.centre_moves else range(n)
    rules = [LocalRule(state.x[i : i + 1], [0], Settings(lr=lr), 1) if i in movers else None for i in range(len(x))]
    workers = SimpleNamespace(parameters=state.x[:n].clone(), gradients=torch.zeros_like(state.x[:n]))
    compute = gradients(workers) if gradients else lambda which: [0.0] * len(which)
    times, link = ComputeTimes(clock, n, seed, 1, 1.0), Link(latency, 1e300)
    events = kind(method, state, rules, times, link, 1.0, 0.0, seed, compute, workers)
    events.start()
    return events


def waiting(n: int, clock: Clock, seed: int, steps: int) -> float:
    """Units of so many steps of n workers that wait for each other."""
    times = ComputeTimes(clock, n, seed, 1, 1.0)
    found = SynchronousClock(n, 0, times, Meter({"x": (1, 4)}, n, Link()), Link(0.0, 1e300), 1.0, 0.0, seed)
    for _ in range(steps):
        found.now = found.after(Step(after=Exchange(AllReduce(n))))
    return found.now.ready[0]


def forms(options) -> pd.DataFrame:
    """One row for each closed form, n, k and, where something is drawn, seed."""
    rows = []

    def row(what, n, k, form, measured, seed=None):
        rows.append({"what": what, "n": n, "k": k, "seed": seed, "form": form, "measured": measured,
                     "difference": measured - form})  # fmt: skip

    for n in WORKERS[options.preset]:
        for k in (1, *SLOWER[options.preset]):
            clock = Clock(stragglers=int(k > 1), slowdown=float(k))
            # Between two gradients of a queue that comes back to itself, so that no use is counted at its edge.
            events = engine(Events, AsynchronousServer(n), np.zeros((n + 1, 1)), clock, 0)
            events.run(SETTLED * k + 0.5)
            before = np.array(events.aged[:n]), sum(events.count)
            events.run((SETTLED + PERIODS) * k + 0.5)
            uses, total = (np.array(events.aged[:n]) - before[0]).T
            made, slow = sum(events.count) - before[1], np.array(events.times.factors) > 1
            others = total[~slow].sum() / uses[~slow].sum()
            if k == 1:
                row("staleness, equal workers", n, k, n - 1, others)
            else:
                row("staleness of the slow worker", n, k, k * (n - 1), total[slow].sum() / uses[slow].sum())
                row("staleness of the others", n, k, others_staleness(n, k), others)
            steps = round(PERIODS * k / (waiting(n, clock, 0, PERIODS) / PERIODS))
            row("gradients, of those of workers that wait", n, k, speed_up(n, k), made / (n * steps))
        for seed in options.seeds:
            clock, units = Clock("exponential"), UNITS[options.preset]
            events = engine(Uses, AsynchronousServer(n), np.zeros((n + 1, 1)), clock, seed)
            events.run(units + OVER)
            # All that began in a time: of those that ended in it the long ones would be missing.
            ages = np.array([staleness for begun, staleness in events.uses if begun <= units])
            row("mean staleness, exponential", n, 1, n - 1, ages.mean(), seed)
            for s, where in ((0, "0"), (n - 1, "n - 1"), (2 * n, "2 n")):
                row(f"share of staleness {where}, exponential", n, 1, float(geometric(n, [s])[0]), (ages == s).mean(),
                    seed)  # fmt: skip
            step = waiting(n, clock, seed, units) / units
            row("units of a step that waits, exponential", n, 1, harmonic(n), step, seed)
    return pd.DataFrame(rows)


class Uses(Events):
    """An engine that keeps each use, (when its gradient began, staleness)."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.uses: list[tuple[float, int]] = []

    def note(self, i, staleness):
        super().note(i, staleness)
        self.uses.append((self.begun[i], staleness))


class Watched(Events):
    """An engine that measures what each event of asynchronous AL-DSGD does to the mean of the models.

    Attributes: seen: one dictionary for each event. times_of, path, gone: of each worker, when it moved, its model
    then, and how far it went.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen: list[dict] = []
        self.times_of = [[-1.0] for _ in range(self.n)]
        self.path, self.gone = [[row.numpy().copy()] for row in self.x], [[0.0] for _ in range(self.n)]

    def mix(self, i, sources, weights):
        before = self.x.numpy().mean(axis=0)
        self.seen.append(self.expected(i, sources, weights))
        super().mix(i, sources, weights)
        self.seen[-1]["moved"] = float(np.linalg.norm(self.x.numpy().mean(axis=0) - before))

    def move(self, row, direction, since=None):
        mixed = self.x[row].numpy().copy()
        super().move(row, direction, since)
        model = self.x[row].numpy().copy()
        self.seen[-1]["stepped"] = float(np.linalg.norm(model - mixed)) / self.n
        self.times_of[row].append(self.now)
        self.gone[row].append(float(np.linalg.norm(model - self.path[row][-1])))
        self.path[row].append(model)

    def expected(self, i: int, sources, weights) -> dict:
        """What the bound says of the event of worker i that is about to mix, and the drag in it."""
        n, method, own = self.n, self.method, self.path[i][-1]
        box = [self.box[i][j] for j in sources if j in self.box[i]]
        own_times = self.times_of[i]
        since = [len(own_times) - bisect_right(own_times, m.stamp) for m in box]
        since[0] = 0  # its own model
        then = np.array([self.path[i][-1 - m] for m in since])
        apart = np.linalg.norm(np.array([self.carried(m).numpy() for m in box]) - then, axis=1)
        far = max(self.gone[i][len(own_times) - max(since) :], default=0.0)
        absent = sum(w for j, w in zip(sources, weights, strict=True) if j not in self.box[i])
        used = np.array([w for j, w in zip(sources, weights, strict=True) if j in self.box[i]])
        used[0] += absent
        ages = [0.0] + [self.now - m.stamp for m in box[1:]]
        losses = [self.loss[i]] + [m.loss for m in box[1:]]
        degrees = [len(sources) - 1] + [m.degree for m in box[1:]]
        best, largest, (a, b, c) = led(losses, degrees, ages, method.own, method.age, method.limit)
        heard, weighed, _ = method.table(self.count[i] - 1)
        gossip = dict(zip(heard[i], weighed[i], strict=True))
        built = np.array([a * gossip[m.source] for m in box])
        built[0] += a * sum(w for j, w in gossip.items() if j not in self.box[i])
        built[best] += b
        built[largest] += c
        others = np.abs(used[1:])
        drag = used[1:] @ (own - then[1:]) if len(box) > 1 else np.zeros_like(own)
        dragged = b * (own - then[best]) + c * (own - then[largest])
        return {
            "bound": float(others @ (apart[1:] + np.array(since[1:]) * far)) / n,
            "drag": float(np.linalg.norm(drag)) / n,
            "drag_bound": float(others @ np.array(since[1:])) * far / n,
            "led": float(np.linalg.norm(dragged)) / n,
            "led_bound": (b * since[best] + c * since[largest]) * far / n,
            "rule_bound": most_drag(method.own, method.age, method.limit) * far / n if far else 0.0,
            "oldest": max(ages[best], ages[largest]),
            "unlike": float(np.abs(used - built).max()),
        }


def observed(level: str, rule, clock, seed: int, units: int) -> pd.DataFrame:
    """Every event of one run: models that agree far from the minimum, on quadratics whose workers differ."""
    graph, (age, limit), (times, slower, latency) = paper_graph(level), rule, clock
    problem = Quadratics.random(graph.n, 6, 1.0, 0.1, sigma2=0.5, zeta2=0.5, seed=seed)
    noise = np.random.default_rng([seed, 1])

    def gradients(workers):
        def compute(which):
            losses, found = problem.draw(workers.parameters.numpy()[None], noise)
            workers.gradients[which] = torch.from_numpy(found[0][which])
            return losses[0][which].tolist()

        return compute

    method = AsynchronousALDSGD(DPSGD(graph), *README, age=age, age_limit=limit)
    virtual = Clock(times, stragglers=int(slower > 1), slowdown=slower)
    events = engine(Watched, method, np.full((graph.n, 6), 10.0), virtual, seed, latency, gradients)
    events.run(units)
    return pd.DataFrame(events.seen)


def ratio(part: pd.Series, whole: pd.Series) -> float:
    """The largest of the ratios in which the whole is not zero but for rounding."""
    able = whole > 1e-12
    return float((part[able] / whole[able]).max()) if able.any() else np.nan


def drift(options) -> pd.DataFrame:
    """One row for each graph, rule of age, clock and seed."""
    rows = []
    p = options.preset
    for level, rule, clock, seed in product(LEVELS[p], RULES[p], CLOCKS[p], options.seeds):
        events = observed(level, rule, clock, seed, LONG[p])
        stepped = np.square(events["stepped"]).mean() ** 0.5
        regular = clock[0] == "constant" and rule[0] != "none"
        rows.append(
            {
                "level": level, "age": rule[0], "limit": rule[1], "times": clock[0], "slower": clock[1],
                "latency": clock[2], "seed": seed, "events": len(events),
                "ratio": ratio(events["moved"], events["bound"]),
                "drag_ratio": ratio(events["drag"], events["drag_bound"]),
                "led_ratio": ratio(events["led"], events["led_bound"]),
                "rule_ratio": ratio(events["led"], events["rule_bound"]) if regular else np.nan,
                "excess": float((events["led"] - events["rule_bound"]).max()) if regular else np.nan,
                "beyond": np.square(events["moved"]).mean() ** 0.5 / stepped,
                "drag": np.square(events["drag"]).mean() ** 0.5 / stepped,
                "led": np.square(events["led"]).mean() ** 0.5 / stepped,
                "oldest": events["oldest"].max(), "unlike": events["unlike"].max(),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def tables(options) -> dict[str, pd.DataFrame]:
    return {"staleness_forms": forms(options), "staleness_drift": drift(options)}


def main(_session) -> None:
    run("theory_staleness", parser(__doc__, seeds=(0, 1, 2, 3, 4)), tables)


if __name__ == "__main__":
    command(main)
