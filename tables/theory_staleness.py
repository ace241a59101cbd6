"""What THEORY.md says of staleness, and of how far old leaders move the mean of the models."""

import pandas as pd

from aldsgd.statistics import mean_interval, paired_by_seed
from tables.theory_verdicts import Frames, Statement, few_enough, interval, judge, number, spread

#: What counts as equal, and as no more than a bound, in float64.
EXACT = 1e-9
QUEUE = "a server and n workers, in the engine of virtual time"
GOSSIP = "quadratics whose workers differ, D-PSGD core, README coefficients"


def ruled(rows: pd.DataFrame) -> pd.Series:
    """The name of each row's rule of age, with its limit where it has one."""
    return rows["age"] + rows["limit"].map(" {:g}".format).where(rows["age"] != "none", "")


def queues(rows: pd.DataFrame) -> list[Statement]:
    """The closed forms: those that hold exactly, and those of something that is drawn."""
    exact, drawn = rows[rows["seed"].isna()], rows[rows["seed"].notna()]
    tests = [
        (what, own["form"].iloc[0], mean_interval(own["measured"]))
        for (what, _), own in drawn.groupby(["what", "n"], sort=False)
    ]
    missed = {what: 0 for what, *_ in tests}
    for what, form, found in tests:
        missed[what] += not found.low <= form <= found.high
    many = len(tests) // max(1, len(missed))
    means = drawn.groupby(["what", "n"], sort=False)[["difference", "form"]].mean()
    off = means["difference"] / means["form"]
    return [
        Statement(
            "Constant times: n - 1 for equal workers; k (n - 1) for one that is k times slower, n - 2 + 1/k for the "
            "others; (k (n - 1) + 1) / n as many gradients as workers that wait make",
            judge((row.what, abs(row.difference) < EXACT) for row in exact.itertuples()),
            f"largest difference {number(exact['difference'].abs().max())} in {len(exact)} cases, n "
            f"{spread(exact['n'])}, k {spread(exact['k'])}",
            QUEUE,
        ),
        Statement(
            "Exponential times: staleness is geometric, P(s) = (1/n) (1 - 1/n)^s, and a step of workers that wait "
            "takes H_n (in the interval over seeds, but for as many misses as chance explains)",
            judge((what, few_enough(count, many)) for what, count in missed.items()),
            f"{sum(missed.values())} of {len(tests)} intervals miss; means are off by a share of "
            + "; ".join(f"{what.removesuffix(', exponential')}: {spread(own)}"
                        for what, own in off.groupby(level=0, sort=False)),
            QUEUE,
        ),
    ]  # fmt: skip


def bounds(rows: pd.DataFrame) -> list[Statement]:
    """The bound on an event, that of a rule of age, and what the rules are good for."""
    regular = rows[rows["excess"].notna()]
    late = rows[(rows["times"] == "constant") & (rows["slower"] > 1)]
    cases, numbers = [], []
    for (slower, latency), here in late.groupby(["slower", "latency"], sort=False):
        where = f"{slower:g} times slower, latency {latency:g}"
        means = {rule: own.groupby("seed")["led"].mean() for rule, own in here.groupby("rule", sort=False)}
        for rule, own in means.items():
            if rule != "none":
                less = paired_by_seed(dict(own), dict(means["none"]))
                cases.append((f"{rule}, {where}", less is not None and less.high < 0))
        told = ", ".join(f"{rule} {interval(mean_interval(own))}" for rule, own in means.items())
        numbers.append(f"{where}: {told}")
    return [
        Statement(
            "An event moves the mean of the models, beyond its gradient, by no more than "
            "(1/n) sum_j C_ij (r_ij + m_ij D)",
            judge((f"{row.rule}, {row.times} times", row.ratio <= 1 + EXACT) for row in rows.itertuples()),
            f"moved over bound at most {number(rows['ratio'].max())}; the drag of age alone over "
            f"(1/n) sum_j C_ij m_ij D at most {number(rows['drag_ratio'].max())}, the leaders' over theirs at most "
            f"{number(rows['led_ratio'].max())}; {rows['events'].sum()} events",
            GOSSIP,
        ),
        Statement(
            "Constant times: whatever the slowest worker and the links, leaders drag the mean back by no more than "
            "their rule of age lets them, (b + c) (ceil(limit) - 1) D / n, or the like of fading",
            judge((row.rule, row.excess <= EXACT) for row in regular.itertuples()),
            "drag over the rule's bound at most: "
            + "; ".join(f"{rule}: {spread([own['rule_ratio'].max()])}"
                        for rule, own in regular.groupby("rule", sort=False)),
            GOSSIP,
        ),
        Statement(
            "With one slow worker a rule of age lowers the leaders' drag (paired over seeds)",
            judge(cases),
            "root mean square, over that of what gradients move the mean by: " + "; ".join(numbers),
            GOSSIP,
        ),
    ]  # fmt: skip


def staleness_statements(frames: Frames) -> list[Statement]:
    drift = frames["staleness_drift"].assign(rule=ruled)
    young = drift[drift["age"] == "bound"]
    return [
        *queues(frames["staleness_forms"]),
        *bounds(drift),
        Statement(
            "The engine's weights are a W + b e_best + c e_degree, and leaders are within the limit of age",
            judge([("all", bool(drift["unlike"].max() < 1e-12 and (young["oldest"] <= young["limit"]).all()))]),
            f"largest difference {number(drift['unlike'].max())}, oldest leader {number(drift['oldest'].max())} units "
            f"without a bound, {number(young['oldest'].max())} with the largest",
            "asynchronous AL-DSGD on quadratics",
            code=True,
        ),
    ]
