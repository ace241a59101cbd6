"""Statements about leaders whose coefficients follow the rate, judged from the tables of
``experiments.theory_fading``."""

import numpy as np
import pandas as pd

from aldsgd.statistics import mean_interval
from tables.theory_training import ADDITIVE
from tables.theory_verdicts import BELOW_ONE, Frames, Statement, interval, judge, label, number, spread

RARE = "logistic regression with a rare class"
RANKS = "any losses, random loss ranks"
#: Rules with constant coefficients -> the same, fading.
PAIRS = {"AL-DSGD": "AL-DSGD, fading", "AL-DSGD, receiver judges": "fading leaders"}
FADES, CONSTANT = tuple(PAIRS.values()), tuple(PAIRS)


def fading_statements(frames: Frames) -> list[Statement]:
    """Of the script, in the order in which THEORY.md shows them."""
    return [*contraction(frames["fading_mixing"]), *drift(frames["fading_mixing"], frames["fading_rest"]),
            *floors(frames["fading_rest"]), *bias(frames["fading_rest"], frames["fading_targets"])]  # fmt: skip


def contraction(rows: pd.DataFrame) -> list[Statement]:
    """How fast the workers agree, from s = 1 to the core."""
    curves = {f"{own['core'].iloc[0]} {label(own.iloc[0])}": own.set_index("s")["rate"].sort_index()
              for _, own in rows.groupby(["core", "level", "graphs"], sort=False)}  # fmt: skip
    steps = {name: np.diff(curve.to_numpy()) for name, curve in curves.items()}
    agree = {name: curve for name, curve in curves.items() if curve[0] < BELOW_ONE}
    least = {name: curve.index[curve.index > 0][0] for name, curve in curves.items()}
    near = {name: abs(curve[least[name]] - curve[0]) for name, curve in curves.items()}
    safe = rows[rows["s"] == 1].set_index(["core", "level", "graphs"])["safe"].dropna()
    return [
        Statement(
            "One step contracts no worse than the bound, (a lambda + (1 - a) kappa)^2, at every s",
            judge([("all", bool((rows["one_step"] <= rows["bound"] + 1e-12).all()))]),
            f"norm over bound {spread(rows['one_step'] / rows['bound'])} in {len(rows)} cases",
            RANKS,
            True,
        ),
        Statement(
            "As s goes to 0 the rate is the core's (within a hundredth at the smallest s)",
            judge((name, gap < 0.01) for name, gap in near.items()),
            f"difference {spread(near.values())} at s = {number(min(least.values()))}",
            RANKS,
        ),
        Statement(
            "At every s in between the workers agree, where the core does",
            judge((name, bool((curve < BELOW_ONE).all())) for name, curve in agree.items()),
            f"rate {spread(np.concatenate(list(agree.values())))}; by the bound alone sure below s = {spread(safe)}",
            RANKS,
        ),
        Statement(
            "The rate goes to the core's monotonically",
            judge((name, bool((d <= 1e-9).all() or (d >= -1e-9).all())) for name, d in steps.items()),
            "rate of the core, at s = 1, and the least: "
            + "; ".join(f"{name}: {number(c[0])}, {number(c.iloc[-1])}, {number(c.min())}"
                        for name, c in curves.items()),
            RANKS,
        ),
        Statement(
            "On the way it is never slower than at both ends",
            judge((name, bool(c.max() <= max(c.iloc[0], c.iloc[-1]) + 1e-9)) for name, c in curves.items()),
            f"{len(curves)} schedules",
            RANKS,
        ),
    ]  # fmt: skip


def drift(rows: pd.DataFrame, rest: pd.DataFrame) -> list[Statement]:
    """How far leaders move the mean."""
    led = rows[rows["lead"] > 0]
    first = rows[rows["s"] == 1].set_index(["core", "level", "graphs"])
    alone = [r["drift"] / r["lead"] for _, r in led.iterrows()]  # what R alone does; it hardly depends on s
    whole = [
        first.loc[(r["core"], r["level"], r["graphs"]), "drift"] / first["lead"].iloc[0] for _, r in led.iterrows()
    ]
    forces = {}
    for (problem, graph, method), own in rest[rest["method"] != "D-PSGD"].groupby(
        ["problem", "graph", "method"], sort=False
    ):
        forces[problem, graph, method] = slope(own, "force")
    return [
        Statement(
            "Under random ranks the mean moves by 1 - a = s (c + p) - s^2 c p times what leaders alone would move it "
            "(within a tenth over all s; R changes a little with s)",
            judge([("all", bool(np.allclose(alone, whole, rtol=0.1)))]),
            f"drift over 1 - a, of that at s = 1: {spread(np.array(alone) / np.array(whole))}",
            RANKS,
        ),
        Statement(
            "The mean moves by at most s (c + p) sqrt(d_max) roots of the consensus distance, whoever judges",
            judge([("all", bool((led["drift"] <= led["drift_bound"]).all() and (rest["largest"] <= 1).all()))]),
            f"largest share of the bound: {number(float((led['drift'] / led['drift_bound']).max()))} in the mean, "
            f"{number(rest['largest'].max())} in {rest['run'].nunique()} runs",
            "any losses",
            True,
        ),
        Statement(
            "Over the rate the force of leaders on the mean falls with s where coefficients fade (log-log slope nearer "
            "to 1 than to 0)",
            judge((", ".join(key), found.low > 0.5) for key, found in forces.items() if key[2] in FADES),
            "slope: " + "; ".join(f"{', '.join(key)}: {interval(found)}" for key, found in forces.items()
                                  if key[2] in FADES),
            f"{ADDITIVE}; {RARE}",
        ),
        Statement(
            "and stays where they are constant (nearer to 0)",
            judge((", ".join(key), abs(found.mean) + found.half_width < 0.5) for key, found in forces.items()
                  if key[2] in CONSTANT),
            "slope: " + "; ".join(f"{', '.join(key)}: {interval(found)}" for key, found in forces.items()
                                  if key[2] in CONSTANT),
            f"{ADDITIVE}; {RARE}",
        ),
    ]  # fmt: skip


def slope(rows: pd.DataFrame, column: str):
    """Interval over runs of the log-log slope of a column in s."""
    table = rows.pivot(index="s", columns="run", values=column)
    return mean_interval(np.polyfit(np.log(table.index.to_numpy(float)), np.log(table.to_numpy()), 1)[0])


def floors(rest: pd.DataFrame) -> list[Statement]:
    """Where additive noise leaves the squared gradient as the rate falls."""
    own = rest[rest["problem"] == "quadratics"]
    found = {key: slope(rows, "gradient2") for key, rows in own.groupby(["graph", "method"], sort=False)}
    last = own[own["s"] == own["s"].min()]
    ends = {key: rows["gradient2"].mean() for key, rows in last.groupby(["graph", "method"], sort=False)}
    floor = own[own["s"] == 1].groupby("graph")["floor"].first()
    known = last.groupby("graph")["floor"].first()

    def shown(methods) -> str:
        return "; ".join(f"{graph}, {method}: slope {interval(found[graph, method])}, at last {number(value)}"
                         for (graph, method), value in ends.items() if method in methods)  # fmt: skip

    return [
        Statement(
            "With additive noise the squared gradient goes to zero with the rate where coefficients fade, as with the "
            "core (log-log slope nearer to 1 than to 0)",
            judge((f"{key[0]}, {key[1]}", f.low > 0.5) for key, f in found.items() if key[1] in (*FADES, "D-PSGD")),
            shown((*FADES, "D-PSGD")),
            ADDITIVE,
        ),
        Statement(
            "and with constant ones, judged by their own batch, it stops (nearer to 0, and at last above the floor)",
            judge((f"{key[0]}, {key[1]}", f.high < 0.5 and ends[key] > 0.9 * floor[key[0]])
                  for key, f in found.items() if key[1] == "AL-DSGD"),
            shown(("AL-DSGD",)) + "; floor of the mixture at s = 1 and at last: "
            + ", ".join(f"{graph} {number(floor[graph])} and {number(known[graph])}" for graph in floor.index),
            ADDITIVE,
        ),
        Statement(
            "Judged by the receiver it does not stop even with constant coefficients (noise is symmetric)",
            judge((f"{key[0]}, {key[1]}", f.low > 0.5) for key, f in found.items() if key[1] == CONSTANT[1]),
            shown(CONSTANT[1:]),
            ADDITIVE,
        ),
    ]  # fmt: skip


def bias(rest: pd.DataFrame, targets: pd.DataFrame) -> list[Statement]:
    """How far from its core a rule rests, in units of the way from the minimiser of F to that of the mixture."""
    own = rest[(rest["problem"] == "rare class") & (rest["method"] != "D-PSGD")]
    found = {key: mean_interval(rows["share"].to_numpy())
             for key, rows in own.groupby(["graph", "method", "s"], sort=False)}  # fmt: skip
    aims = targets.groupby(["graph", "s"])["share"].mean()
    least = own["s"].min()

    def shown(method: str) -> str:
        return "; ".join(f"{graph}, rate {number(s)}: {interval(f)}" for (graph, name, s), f in found.items()
                         if name == method)  # fmt: skip

    def at_last(method: str):
        return ((graph, f) for (graph, name, s), f in found.items() if name == method and s == least)

    led = [((graph, s), f) for (graph, name, s), f in found.items() if name == "AL-DSGD, fading"]
    recalls = rest[(rest["problem"] == "rare class") & (rest["s"] == least)].groupby(["graph", "method"], sort=False)
    kept = "distance from the core, of the way to the mixture: "
    return [
        Statement(
            "AL-DSGD's bias stays as the rate falls: at the lowest it keeps more than half of the way to the mixture's "
            "minimiser",
            judge((graph, f.low > 0.5) for graph, f in at_last("AL-DSGD")),
            kept + shown("AL-DSGD"),
            RARE,
        ),
        Statement(
            "Fading takes the bias away: less than a quarter is left, judged by its own batch",
            judge((graph, -0.25 < f.low and f.high < 0.25) for graph, f in at_last("AL-DSGD, fading")),
            kept + shown("AL-DSGD, fading"),
            RARE,
        ),
        Statement(
            "and less than a quarter with the repository's own rule",
            judge((graph, -0.25 < f.low and f.high < 0.25) for graph, f in at_last("fading leaders")),
            kept + shown("fading leaders"),
            RARE,
        ),
        Statement(
            "On the way it rests where the mixture of s is least (the interval holds its share)",
            judge((f"{graph}, rate {number(s)}", f.low <= aims[graph, s] <= f.high) for (graph, s), f in led),
            "share of the mixture: " + "; ".join(f"{graph}, s {number(s)}: {number(aims[graph, s])}"
                                                 for (graph, s), _ in led),
            RARE,
        ),
        Statement(
            "Judged by the receiver with constant coefficients there is no such bias either (0 in the interval at the "
            "lowest rate)",
            judge((graph, f.low <= 0 <= f.high) for graph, f in at_last(CONSTANT[1])),
            kept + shown(CONSTANT[1]) + "; recall of the rare class at last: "
            + "; ".join(f"{graph}, {method} {number(rows['recall'].mean())}" for (graph, method), rows in recalls),
            RARE,
        ),
    ]  # fmt: skip
