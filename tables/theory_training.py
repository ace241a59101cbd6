"""Statements about assumptions, rates and many workers, judged from their tables."""

import math

import numpy as np
import pandas as pd

from aldsgd.statistics import mean_interval, paired_interval
from aldsgd.theory.bounds import largest_step
from tables.theory_verdicts import BELOW_ONE, Frames, Statement, few_enough, interval, judge, number, spread


def assumption_statements(frames: Frames, rho: float | None) -> list[Statement]:
    rows, probes = frames["assumptions"], frames["assumptions_leaders"]
    kinds = ["dataset", "model", "split"]

    def named(key) -> str:
        return f"{key[0]} {key[1]}, {key[2]}"

    sampled = rows["curvature"].groupby([rows[k] for k in [*kinds, "seed"]]).transform("max")
    moved = rows[rows["quotient"].notna()]
    inside = moved["quotient"] <= 1.05 * sampled[moved.index]
    steep = [(named(key), float((g["lr"] * g["curvature"]).max())) for key, g in rows.groupby(kinds, sort=False)]
    statements = [
        Statement(
            "F is smooth where training goes: gradient differences stay below the largest curvature measured",
            judge((named(tuple(r[k] for k in kinds)), bool(inside[i])) for i, r in moved.iterrows()),
            f"curvature {spread(rows['curvature'])}, difference quotients {spread(moved['quotient'])}; "
            f"relative residual of the power iteration at most {number(rows['residual'].max())}",
        ),
        Statement(
            "The learning rate used satisfies eta L <= 1, with the curvature measured",
            judge((name, value <= 1) for name, value in steep),
            "largest eta L: " + "; ".join(f"{name} {number(value)}" for name, value in steep),
        ),
    ]
    if rho is not None:
        allowed = largest_step(1.0, rho)
        statements.append(
            Statement(
                "It satisfies the theorem's condition eta L <= min{1, (rho^(-1/2) - 1)/4} of the graph used",
                judge((name, value <= allowed) for name, value in steep),
                f"eta L may be {number(allowed)} at rho = {number(rho)}, is up to {spread(v for _, v in steep)}",
            )
        )
    start = rows[rows["epoch"] == 0].groupby(kinds, sort=False)["variance"].mean()
    later = rows[rows["epoch"] > 0].groupby(kinds, sort=False)["variance"].max()
    statements.append(
        Statement(
            "Mini-batch gradient variance never exceeds ten times its value at the start",
            judge((named(key), later[key] <= 10 * start[key]) for key in start.index),
            "; ".join(
                f"{named(key)}: {number(start[key])} at the start, later at most {number(later[key])}"
                for key in start.index
            ),
        )  # fmt: skip
    )
    last = rows[rows["epoch"] == rows.groupby(kinds)["epoch"].transform("max")]
    ratio = {
        key: (mean_interval(g["zeta2"]), mean_interval(g["gradient2"])) for key, g in last.groupby(kinds, sort=False)
    }
    statements.append(
        Statement(
            "Shards agree: at the end of training zeta^2 is below the squared gradient of F",
            judge((named(key), zeta.mean <= norm.mean) for key, (zeta, norm) in ratio.items()),
            "; ".join(
                f"{named(key)}: zeta^2 {number(z.mean)}, ||grad F||^2 {number(g.mean)}" for key, (z, g) in ratio.items()
            ),
        )  # fmt: skip
    )
    # One value a seed; the first probe is before any exchange, when workers are strangers: it is left to the figure.
    seeds = probes[probes["step"] > 0].groupby([*kinds, "seed"], sort=False).mean(numeric_only=True).reset_index()
    by_kind = dict(iter(seeds.groupby(kinds, sort=False)))
    for column, what in (("with_loss", "training loss over all data"), ("with_accuracy", "test accuracy")):
        found = {key: mean_interval(g[column]) for key, g in by_kind.items()}
        numbers = "; ".join(f"{named(key)}: {interval(value)}" for key, value in found.items())
        statements.append(
            Statement(
                f"A loss of 16 samples ranks workers by their {what} (mean rank correlation over 0)",
                judge((named(key), value.low > 0) for key, value in found.items()),
                numbers,
            )
        )
        statements.append(
            Statement(
                f"and well enough to lead (mean rank correlation over 0.5, {what})",
                judge((named(key), value.low > 0.5) for key, value in found.items()),
                "as above",
            )
        )
    for column, who in (("best_hits", "chosen best"), ("degree_hits", "largest-degree")):
        found = {key: paired_interval(list(g[column]), list(g["chance"])) for key, g in by_kind.items()}
        statements.append(
            Statement(
                f"The {who} leader is the truly best candidate more often than chance",
                judge((named(key), value.low > 0) for key, value in found.items()),
                "; ".join(
                    f"{named(key)}: {number(by_kind[key][column].mean())} against "
                    f"{number(by_kind[key]['chance'].mean())}, "
                    f"difference {interval(value)}"
                    for key, value in found.items()
                ),
            )  # fmt: skip
        )
    return statements


def step_limits(floors: pd.DataFrame) -> pd.DataFrame:
    """Squared gradient over the floor, continued linearly from the two smallest steps to zero; NaN with one step."""
    rows = []
    for (n, second), own in floors.groupby(["n", "second_draw"], sort=False):
        own = own.sort_values("eta")
        x, y = own["eta"].to_numpy()[:2], (own["mean"] / own["floor"]).to_numpy()[:2]
        limit = y[0] - x[0] * (y[1] - y[0]) / (x[1] - x[0]) if len(x) > 1 else math.nan
        rows.append({"n": n, "second_draw": second, "ratio": limit})
    return pd.DataFrame(rows)


def rate_statements(frames: Frames) -> list[Statement]:
    rows, slopes, exact = frames["rate"], frames["rate_slopes"], frames["rate_exact"]
    bounded = rows[rows["bound"].notna()]

    def about_bound(part) -> tuple[str, str]:
        verdict = judge((f"{r['problem']}, {r['method']}", r["high"] <= r["bound"]) for _, r in part.iterrows())
        misses = int((part["high"] > part["bound"]).sum())
        return verdict, (f"{misses} of {len(part)} settings exceed it; upper end over bound "
                         f"{spread(part['high'] / part['bound'])}")  # fmt: skip

    statements = [
        Statement("D-PSGD and MATCHA obey the bound of `aldsgd.theory.bounds.rate_bound` (upper end of the interval)",
                  *about_bound(bounded[bounded["claimed"]])),
        Statement("AL-DSGD obeys the same bound, which is proved only for its core",
                  *about_bound(bounded[~bounded["claimed"]])),
    ]  # fmt: skip
    for along, what in (("K", "steps"), ("n", "workers")):
        part = slopes[slopes["along"] == along]
        known = part[part["exact"].notna()]
        misses = int(((known["exact"] < known["low"]) | (known["exact"] > known["high"])).sum())
        statements.append(
            Statement(
                f"Slope in the number of {what}, quadratics, D-PSGD: the exact one lies in the interval",
                judge([("all", few_enough(misses, len(known)))] if len(known) else []),
                f"{len(known) - misses} of {len(known)} 95 % intervals; exact {spread(known['exact'])}",
            )
        )
        text = (
            "O(1/sqrt(K)): slope in K within 0.1 of -1/2"
            if along == "K"
            else "Linear speed-up: slope in n within 0.1 of -1/2"
        )
        groups = {f"{problem}, {method}": g for (problem, method), g in part.groupby(["problem", "method"], sort=False)}
        statements.append(
            Statement(
                text,
                judge((name, bool((abs(g["slope"] + 0.5) <= 0.1).all())) for name, g in groups.items()),
                "; ".join(f"{name}: {spread(g['slope'])}" for name, g in groups.items()),
            )
        )
    pairs = rows[rows["graph"] == "exponential"].pivot_table(
        index=["problem", "n", "K"], columns="method", values="mean"
    )
    if {"D-PSGD", "AL-DSGD on D-PSGD"} <= set(pairs.columns):
        pairs = pairs.dropna()
        ratio = pairs["AL-DSGD on D-PSGD"] / pairs["D-PSGD"]
        most = ratio.groupby(level=["problem", "n"], sort=False).mean()
        statements.append(
            Statement(
                "AL-DSGD's average squared gradient is no larger than D-PSGD's on the same graph (exponential)",
                judge((f"{problem}, n = {n}", value <= 1) for (problem, n), value in most.items()),
                "ratio, mean over K: " + "; ".join(f"{p} n = {n}: {number(v)}" for (p, n), v in most.items()),
            )
        )
    limits = step_limits(frames["rate_floor"])
    for second, text in ((False, "of its own mini-batch, as in the method"), (True, "of a second draw")):
        part = limits[limits["second_draw"] == second]
        statements.append(
            Statement(
                "AL-DSGD's gradient goes to zero with the step (complete graph, equal objectives, leader by the loss "
                f"{text}): squared, extrapolated to a step of zero, below a quarter of `quadratics.selection_floor`",
                judge((f"n = {int(r['n'])}", r["ratio"] < 0.25) for _, r in part.iterrows()),
                "limit over floor: "
                + "; ".join(f"n = {int(r['n'])}: {number(r['ratio'])}" for _, r in part.iterrows()),
            )
        )
    own = limits[~limits["second_draw"]]
    statements.append(
        Statement(
            "and with its own mini-batch's loss it stops at that floor (limit within 15 % of it)",
            judge((f"n = {int(r['n'])}", abs(r["ratio"] - 1) <= 0.15) for _, r in own.iterrows()),
            "as above",
        )
    )
    for quantity, what in (("gradient", "E||grad F(mean)||^2"), ("consensus", "consensus distance")):
        part = exact[(exact["quantity"] == quantity)]
        outside = (part["exact"] < part["low"]) | (part["exact"] > part["high"])
        names = {method: (int(outside[g.index].sum()), len(g)) for method, g in part.groupby("method", sort=False)}
        statements.append(
            Statement(
                f"Exact {what} is what simulation shows, leaders at random",
                judge((name, few_enough(*counts)) for name, counts in names.items()),
                f"95 % intervals that miss it: {'; '.join(f'{n}: {m} of {t}' for n, (m, t) in names.items())}",
            )
        )
    return statements


def log_slope(x, y) -> float:
    return float(np.polyfit(np.log(np.asarray(x, dtype=float)), np.log(np.asarray(y, dtype=float)), 1)[0])


def scaling_statements(frames: Frames) -> list[Statement]:
    rows, costs = frames["scaling"], frames["scaling_cost"]
    statements = []
    large = costs[costs["n"] >= 128]
    if len(large) > 3:
        slope = {method: log_slope(g["entries"], g["seconds"]) for method, g in large.groupby("method", sort=False)}
        statements.append(
            Statement(
                "Seconds per exchange grow no faster than edges (log-log slope at most 1.1 from n = 128 on)",
                judge((method, value <= 1.1) for method, value in slope.items()),
                "; ".join(f"{method}: slope {number(value)}" for method, value in slope.items())
                + f"; at n = {costs['n'].max()}: {spread(1000 * costs[costs['n'] == costs['n'].max()]['seconds'])} ms",
            )
        )
    gossip = rows[
        (rows["problem"] == "agreement") & (rows["method"] == "D-PSGD") & rows["rho"].between(1e-12, BELOW_ONE)
    ]
    needed = np.ceil(math.log(0.01) / np.log(gossip["rho"]))
    within = gossip["iterations"].fillna(np.inf) <= needed
    tested = ~gossip["censored"] | (needed <= gossip["k_max"])
    statements.append(
        Statement(
            "D-PSGD agrees to 1 % within log(0.01)/log(rho) iterations",
            judge((f"{r['graph']}, n = {r['n']}", bool(within[i])) for i, r in gossip[tested].iterrows()),
            f"{int(tested.sum())} runs; {int((~tested).sum())} are censored before that many and say nothing",
        )
    )
    for problem, what in (("agreement", "Agreement to 1 %"), ("quadratics", "Excess loss of 1 % on noisy quadratics"),
                          ("logistic", "Excess loss of 10 % on logistic regression")):  # fmt: skip
        part = rows[rows["problem"] == problem]
        if part.empty:
            continue
        cases = part.groupby(["graph", "method"], sort=False)
        largest = part["n"].max()
        numbers = []
        for (graph, method), g in cases:
            ends = [g[g["n"] == n] for n in (g["n"].min(), g["n"].max())]
            shown = [
                number(e["iterations"].mean()) if not e["censored"].any() else f"over {e['k_max'].max()}" for e in ends
            ]
            numbers.append(f"{graph} {method}: {shown[0]} (n = {g['n'].min()}), {shown[1]} (n = {g['n'].max()})")
        statements.append(
            Statement(
                f"{what} within {part['k_max'].max()} iterations for every n up to {largest}",
                judge((f"{graph}, {method}", not bool(g["censored"].any())) for (graph, method), g in cases),
                "; ".join(numbers),
            )
        )
    noisy = rows[rows["problem"] == "quadratics"]
    growth = {f"{graph}, {method}": g.groupby("n")["consensus"].mean() for (graph, method), g in
              noisy.groupby(["graph", "method"], sort=False)}  # fmt: skip
    statements.append(
        Statement(
            "Consensus distance at n = max is at most twice that at n = 32 (noisy quadratics)",
            judge((name, g.iloc[-1] <= 2 * g.get(32, g.iloc[0])) for name, g in growth.items()),
            "; ".join(f"{name}: {number(g.get(32, g.iloc[0]))} to {number(g.iloc[-1])}" for name, g in growth.items()),
        )
    )
    return statements
