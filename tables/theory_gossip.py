"""Statements about schedules and drift correctors, with and without leaders, judged from the tables of
``experiments.theory_gossip``. ``gossip_statements`` is what a report takes."""

import numpy as np
import pandas as pd

from aldsgd.statistics import mean_interval
from tables.theory_verdicts import Frames, Statement, interval, judge, number, spread

#: Squared norm, or distance, that counts as zero in float64.
EXACT = 1e-20
FINITE = ("hypercube", "one_peer", "base:2", "base:3")
#: Methods that are said to rest at the minimiser of F at any constant rate.
CORRECTORS = ("gradient tracking", "gradient tracking, adapt then combine", "exact diffusion",
              "exact diffusion with momentum", "D2", "momentum tracking")  # fmt: skip
OTHERS = ("D-PSGD", "QG-DSGDm", "DecentLaM", "AL-DSGD", "AL-DSGD, printed order")
MODEL = "quadratics without noise, workers that differ in minima and curvatures"


def named(rows: pd.DataFrame, column: str, limit: float, *keys: str):
    """(name of the case, whether the column stays below a limit) of each row."""
    for row in rows.to_dict("records"):
        yield ", ".join(str(row[key]) + (" workers" if key == "workers" else "") for key in keys), row[column] < limit


def agreement(rows: pd.DataFrame) -> list[Statement]:
    """Exact averaging, and what a schedule does for a model that a worker sends."""
    exact = rows[rows["schedule"].isin(FINITE)]
    found = []
    for column, said in (("start", "a period from its start"), ("worst", "a period from any step")):
        verdict = judge(named(exact, column, EXACT, "schedule", "workers"))
        found.append(
            Statement(f"{said} averages exactly: hypercube, one peer, Base-2, Base-3", verdict,
                      f"||(I - J) W_T ... W_1||^2 {spread(exact[column])}")
        )  # fmt: skip
    for n, own in rows.groupby("workers"):
        static = own[~own["schedule"].isin((*FINITE, "equidyn", "matching"))].iloc[0]
        once = float(static["rate"] ** (1 / static["models"]))
        others = own[own["schedule"] != static["schedule"]]
        power = others["rate"] ** (1 / others["models"])
        cases = zip(others["schedule"], power < once - 1e-9, strict=True)
        numbers = ", ".join(f"{name} {number(value)}" for name, value in zip(others["schedule"], power, strict=True))
        found.append(
            Statement(f"{n} workers: disagreement shrinks more for each model that a worker sends than on "
                      f"{static['schedule']}", judge(cases), f"{number(once)} there; {numbers}")
        )  # fmt: skip
    for n, own in rows[rows["schedule"] == "matching"].groupby("workers"):
        expected = 0.5 - 0.5 / (n - 1)
        found.append(
            Statement(f"random matchings of {n} workers: ||E W'W - J|| = 1/2 - 1/(2(n - 1))",
                      judge([("", abs(own["rate"].iloc[0] - expected) < 0.05)]),
                      f"{number(own['rate'].iloc[0])} over the steps drawn, {number(expected)}", code=True)
        )  # fmt: skip
    return found


def leaders(rows: pd.DataFrame) -> list[Statement]:
    """What AL-DSGD leaves of a schedule's exactness, and how far it moves the mean."""
    found = []
    for n, own in rows.groupby("workers"):
        led = own[own["method"] == "AL-DSGD"].groupby("schedule", sort=False)
        plain = own[own["method"] == "D-PSGD"].groupby("schedule", sort=False)["left"].mean()
        ends = {name: mean_interval(list(each["left"])) for name, each in led}
        found.append(
            Statement(f"{n} workers, leaders by random losses: AL-DSGD leaves less disagreement than its core over a "
                      "period", judge((name, found.high < plain[name]) for name, found in ends.items()),
                      "; ".join(f"{name} {interval(found)}, core {number(plain[name])}"
                                for name, found in ends.items()))
        )  # fmt: skip
        moves = {name: mean_interval(list(each["moved"])) for name, each in led}
        found.append(
            Statement(f"{n} workers, leaders by random losses: a period keeps the mean",
                      judge((name, found.high < EXACT) for name, found in moves.items()),
                      f"n ||(1/n) 1'C - (1/n) 1'||^2 {spread(found.mean for found in moves.values())}")
        )  # fmt: skip
    return found


def resting(rows: pd.DataFrame) -> list[Statement]:
    """Where methods rest at a constant rate."""
    rows = rows.assign(weights=rows["weights"] + " weights", eta=rows["eta"].map("eta {:g}".format))
    keys = ("graph", "weights", "eta")
    found = []
    for method in CORRECTORS:
        own = rows[(rows["method"] == method) & ~rows["refused"].astype(bool)]
        away = own[~np.isfinite(own["worst"])]
        lost = ", ".join(dict.fromkeys(f"{row.graph} with {row.weights}, {row.eta}" for row in away.itertuples()))
        refused = rows[(rows["method"] == method) & rows["refused"].astype(bool)]
        spots = ", ".join(dict.fromkeys(f"{row.graph} with {row.weights}" for row in refused.itertuples()))
        found.append(
            Statement(f"{method}: every worker comes to rest at the minimiser of F at a constant rate",
                      judge(named(own, "worst", EXACT, *keys)),
                      f"largest squared distance {spread(own['worst'])}"
                      + f"; diverges on {lost}" * bool(lost)
                      + f"; refuses {spots}" * bool(spots),
                      MODEL)
        )  # fmt: skip
    plain = rows[rows["method"] == "D-PSGD"].set_index([*keys, "seed"])
    for method in OTHERS:
        own = rows[rows["method"] == method].set_index([*keys, "seed"])
        means = own["mean"] / plain["mean"]
        beside = "" if method == "D-PSGD" else f", {spread(means.groupby(level=[0, 1, 2]).median())} times D-PSGD's"
        found.append(
            Statement(f"{method}: the mean worker rests at the minimiser of F at a constant rate",
                      judge(named(own.reset_index(), "mean", EXACT, *keys)),
                      f"squared distance of the mean {spread(own['mean'])}{beside}; of the worst worker "
                      f"{spread(own['worst'])}", MODEL)
        )  # fmt: skip
    return found


def gossip_statements(frames: Frames) -> list[Statement]:
    """All of them."""
    return [
        *agreement(frames["gossip_agreement"]),
        *leaders(frames["gossip_led"]),
        *resting(frames["gossip_rest"]),
    ]
