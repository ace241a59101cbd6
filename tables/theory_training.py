"""Statements about assumptions, rates and many workers, judged from their tables."""

import math

import numpy as np
import pandas as pd

from aldsgd.statistics import mean_interval, paired_interval
from aldsgd.theory.bounds import largest_step
from tables.theory_verdicts import BELOW_ONE, Frames, Statement, few_enough, interval, judge, number, spread

ADDITIVE = "quadratics with additive noise"


def assumption_statements(frames: Frames, rho: float | None) -> list[Statement]:
    rows, probes = frames["assumptions"], frames["assumptions_leaders"]
    kinds = ["dataset", "model", "split"]

    def named(key) -> str:
        return f"{key[0]} {key[1]}, {key[2]}"

    sampled = rows["curvature"].groupby([rows[k] for k in [*kinds, "seed"]]).transform("max")
    moved = rows[rows["quotient"].notna()]
    inside = moved["quotient"] <= sampled[moved.index]
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
    own = rows[rows["epoch"] > 0].groupby([*kinds, "seed"], sort=False)["variance"].max().groupby(kinds, sort=False)
    later = {key: mean_interval(values.to_numpy()) for key, values in own}
    statements.append(
        Statement(
            "Mini-batch gradient variance is bounded by its value at the start (largest later, interval over seeds)",
            judge((named(key), later[key].high <= start[key]) for key in start.index),
            "; ".join(
                f"{named(key)}: {number(start[key])} at the start, later at most {interval(later[key])}"
                for key in start.index
            ),
        )  # fmt: skip
    )
    last = rows[rows["epoch"] == rows.groupby(kinds)["epoch"].transform("max")]
    apart = {key: (g["zeta2"], g["gradient2"]) for key, g in last.groupby(kinds, sort=False)}
    statements.append(
        Statement(
            "Shards agree: at the end zeta^2 < ||grad F||^2, so that local gradients descend on F on average (interval "
            "of the difference)",
            judge((named(key), no_more(zeta, norm)) for key, (zeta, norm) in apart.items()),
            "; ".join(
                f"{named(key)}: zeta^2 {number(z.mean())}, ||grad F||^2 {number(g.mean())}, difference "
                f"{interval(paired_interval(z, g))}"
                for key, (z, g) in apart.items()
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
    force = frames.get("assumptions_force")
    if force is not None:
        last = force.groupby(kinds)["epoch"].transform("max") + 1
        part = force.assign(quarter=(4 * force["epoch"] / last).astype(int))
        part = part[part["quarter"].isin((1, 3))]
        far = part.groupby([*kinds, "seed", "quarter"], sort=False)["largest_distance"].max().unstack()
        apart = {key: paired_interval(list(g[3]), list(g[1])) for key, g in far.groupby(kinds, sort=False)}
        statements.append(
            Statement(
                "The force is bounded: max ||x_i - x_leader|| is no larger in the last quarter than in the second",
                judge((named(key), value.high <= 0) for key, value in apart.items()),
                "; ".join(
                    f"{named(key)}: {number(far.loc[key][1].mean())} to {number(far.loc[key][3].mean())}, difference "
                    f"{interval(value)}"
                    for key, value in apart.items()
                ),
            )
        )
    return statements


def step_limits(floors: pd.DataFrame) -> pd.DataFrame:
    """Squared gradient over the floor, continued linearly from the two smallest steps to zero, with its interval (the
    steps have streams of their own, so their half widths add in squares); NaN with one step."""
    rows = []
    for (n, second), own in floors.groupby(["n", "second_draw"], sort=False):
        own = own.sort_values("eta")[:2]
        mean, half = own["mean"] / own["floor"], (own["high"] - own["mean"]) / own["floor"]
        ratio = width = math.nan
        if len(own) > 1:
            small, large = own["eta"]
            weights = np.array([large, -small]) / (large - small)
            ratio, width = float(weights @ mean), float(np.linalg.norm(weights * half))
        rows.append({"n": n, "second_draw": second, "ratio": ratio, "low": ratio - width, "high": ratio + width})
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
                  *about_bound(bounded[bounded["claimed"]]), code=True),
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
                ADDITIVE,
                True,
            )
        )
        text = (
            "O(1/sqrt(K)): the slope in K is nearer to -1/2 than to 0, a floor (upper end of its interval below -1/4)"
            if along == "K"
            else "Linear speed-up: the slope in n is nearer to -1/2 than to 0 (upper end of its interval below -1/4)"
        )
        groups = {f"{problem}, {method}": g for (problem, method), g in part.groupby(["problem", "method"], sort=False)}
        statements.append(
            Statement(
                text,
                judge((name, bool((g["high"] < -0.25).all())) for name, g in groups.items()),
                "; ".join(f"{name}: {spread(g['slope'])}" for name, g in groups.items()),
            )
        )
    pairs = rows[rows["graph"] == "exponential"].pivot_table(
        index=["problem", "n", "K"], columns="method", values=["mean", "low", "high"]
    )
    if {"D-PSGD", "AL-DSGD on D-PSGD"} <= set(pairs["mean"].columns):
        pairs = pairs.dropna()
        below = pairs["high"]["AL-DSGD on D-PSGD"] <= pairs["low"]["D-PSGD"]
        ratio = (pairs["mean"]["AL-DSGD on D-PSGD"] / pairs["mean"]["D-PSGD"]).groupby(level=[0, 1], sort=False)
        statements.append(
            Statement(
                "AL-DSGD's average squared gradient is smaller than D-PSGD's on the same graph (exponential; intervals "
                "apart at every K)",
                judge((f"{problem}, n = {n}", bool(less)) for (problem, n, _), less in below.items()),
                "ratio, least to largest over K: "
                + "; ".join(f"{p} n = {n}: {number(v.min())} to {number(v.max())}" for (p, n), v in ratio),
            )
        )
    limits = step_limits(frames["rate_floor"])
    for second, text in ((False, "of its own mini-batch, as in the method"), (True, "of a second draw")):
        part = limits[limits["second_draw"] == second]
        numbers = "limit over floor: " + "; ".join(
            f"n = {int(r['n'])}: {number(r['ratio'])} ± {number(r['high'] - r['ratio'])}" for _, r in part.iterrows()
        )
        statements.append(
            Statement(
                f"With additive noise the gradient goes to zero with the step, leader by the loss {text} (complete "
                "graph, equal objectives; interval of the squared gradient's limit holds 0)",
                judge((f"n = {int(r['n'])}", r["low"] <= 0) for _, r in part.iterrows()),
                numbers,
                ADDITIVE,
            )
        )
        if not second:
            statements.append(
                Statement(
                    "and it stops at `selection.selection_floor` (the interval holds it)",
                    judge((f"n = {int(r['n'])}", r["low"] <= 1 <= r["high"]) for _, r in part.iterrows()),
                    "as above",
                    ADDITIVE,
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
                ADDITIVE,
                True,
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
                "Seconds per exchange grow no faster than edges (log-log slope at most 1 from n = 128 on)",
                judge((method, value <= 1) for method, value in slope.items()),
                "; ".join(f"{method}: slope {number(value)}" for method, value in slope.items())
                + f"; at n = {costs['n'].max()}: {spread(1000 * costs[costs['n'] == costs['n'].max()]['seconds'])} ms",
                "no problem",
                True,
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
            "no problem",
            True,
        )
    )
    for problem, what, model in (
        ("agreement", "to agree to 1 %", "exchanges alone, leaders at random"),
        ("quadratics", "to an excess loss of 1 %", ADDITIVE),
        ("logistic", "to an excess loss of 10 %", "logistic regression"),
    ):
        part = rows[rows["problem"] == problem].assign(taken=lambda frame: frame["iterations"].fillna(np.inf))
        each = part.pivot_table(index=["graph", "n", "seed"], columns="method", values="taken", sort=False)
        if not {"D-PSGD", "AL-DSGD on D-PSGD"} <= set(each.columns):
            continue
        pairs = each.groupby(level=["graph", "n"], sort=False).mean()
        core, led = pairs["D-PSGD"], pairs["AL-DSGD on D-PSGD"]
        compared = np.isfinite(core) | np.isfinite(led)  # where both are censored nothing can be said

        def shown(value) -> str:
            return number(value) if np.isfinite(value) else "censored"

        statements.append(
            Statement(
                f"AL-DSGD needs no more iterations than D-PSGD {what} (same graph and n; interval of the difference)",
                judge(
                    (f"{graph}, n = {n}", no_more(each["AL-DSGD on D-PSGD"][graph, n], each["D-PSGD"][graph, n]))
                    for graph, n in pairs[compared].index
                ),
                f"censored at {part['k_max'].max()}; D-PSGD and AL-DSGD at the smallest and largest n: "
                + "; ".join(
                    f"{graph} {shown(core[graph].iloc[k])} and {shown(led[graph].iloc[k])} (n = {core[graph].index[k]})"
                    for graph in dict.fromkeys(pairs.index.get_level_values("graph"))
                    for k in (0, -1)
                ),
                model,
            )
        )
    noisy = rows[rows["problem"] == "quadratics"]
    growth = {f"{graph}, {method}": grown(g.pivot_table(index="seed", columns="n", values="consensus"))
              for (graph, method), g in noisy.groupby(["graph", "method"], sort=False)}  # fmt: skip
    statements.append(
        Statement(
            "Consensus distance does not grow with n (n = 32 against the largest; interval of the difference)",
            judge((name, no_more(large, small)) for name, (small, large) in growth.items()),
            "; ".join(f"{name}: {number(a.mean())} to {number(b.mean())}" for name, (a, b) in growth.items()),
            ADDITIVE,
        )
    )
    return statements


def grown(values: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The columns of n = 32, or the smallest, and of the largest n, by seed."""
    return values[32 if 32 in values else values.columns[0]], values[values.columns[-1]]


def no_more(ours: pd.Series, theirs: pd.Series) -> bool:
    """Whether the interval of ours less theirs, paired by seed, reaches no further than zero; where something is
    infinite, as runs that never came to an end, whether no seed of ours is the larger."""
    ours, theirs = ours.to_numpy(), theirs.to_numpy()
    if not np.isfinite([ours, theirs]).all():
        return bool((ours <= theirs).all())
    return paired_interval(ours, theirs).high <= 0
