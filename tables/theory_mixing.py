"""Statements about graphs, schedules and leaders' matrices, judged from their tables."""

import math

import numpy as np
import pandas as pd

from aldsgd.statistics import mean_interval
from tables.theory_verdicts import BELOW_ONE, Frames, Statement, interval, judge, label, number, spread, table

DIGITS = "MLP on the digits"


def spectrum_statements(frames: Frames) -> list[Statement]:
    rows = frames["spectrum_schedules"].fillna({"cut_off": ""})
    budgets = frames["spectrum_budgets"]
    agrees = rows["rho"] < BELOW_ONE

    def about(method, chosen) -> tuple[str, str]:
        part = rows[(rows["method"] == method) & chosen]
        verdict = judge((label(row), bool(agrees[i])) for i, row in part.iterrows())
        cut = [f"{label(row)}: {row['cut_off']}" for _, row in part.iterrows() if row["cut_off"]]
        found = f"rho {spread(part['rho'])}" + (f"; cut off: {'; '.join(cut[:5])}" if cut else "")
        return verdict, found + (f"; and {len(cut) - 5} more" if len(cut) > 5 else "")

    statements = [
        Statement(
            "W_t is symmetric and doubly stochastic (D-PSGD, released schedule, every graph)",
            judge([("all", bool((rows["row_error"] < 1e-8).all()))]),
            f"largest deviation of a column sum {rows['row_error'].max():.0e}",
            code=True,
        ),
        Statement(
            "Entries of W_t are nonnegative (best equal weights, one graph)",
            judge((label(r), r["smallest_entry"] > -1e-9) for _, r in rows[rows["method"] == "dpsgd"].iterrows()
                  if r["graphs"] == 1),
            f"smallest entry {number(rows['smallest_entry'].min())}",
        ),
        Statement("rho < 1: D-PSGD on one graph", *about("dpsgd", rows["graphs"] == 1)),
        Statement("rho < 1 over a period: D-PSGD on 2 or 3 rotating graphs", *about("dpsgd", rows["graphs"] > 1)),
        Statement("rho < 1 over a period: released two-matching schedule, one graph",
                  *about("dpsgd_released", rows["graphs"] == 1)),
        Statement("rho < 1 over a period: released two-matching schedule, 2 or 3 rotating graphs",
                  *about("dpsgd_released", rows["graphs"] > 1)),
    ]  # fmt: skip
    static = rows[(rows["method"] == "dpsgd") & (rows["graphs"] == 1)].set_index("graph")["rho"]
    full = budgets[budgets["budget"] == 1].set_index("graph")["rho"]
    gaps = (full - static.reindex(full.index)).abs()
    statements.append(
        Statement(
            "MATCHA at budget 1 is D-PSGD with the best alpha",
            judge((str(graph).replace("paper:", ""), gap < 1e-6) for graph, gap in gaps.items()),
            f"largest difference in rho {gaps.max():.0e}",
            code=True,
        )
    )
    falls, kept, passed_over, rises = [], [], [], [0.0]
    for graph, own in budgets.groupby("graph", sort=False):
        own = own.sort_values("budget")
        name = str(graph).replace("paper:", "")
        connected = own["rho"].iloc[-1] < BELOW_ONE
        rises += list(np.diff(own["rho"]))
        falls.append((name, bool((np.diff(own["rho"]) <= 1e-6).all())))
        half = own[own["budget"] == 0.5]["rho"]
        if connected and len(half) and own["rho"].iloc[-1] > 1e-12:
            kept.append((name, float(np.log(half.iloc[0]) / np.log(own["rho"].iloc[-1]))))
        elif len(half):
            passed_over.append(name)
    statements.append(
        Statement(
            "A larger budget never raises MATCHA's rho",
            judge(falls),
            f"largest rise from one budget to the next {number(max(rises))}",
        )
    )
    statements.append(
        Statement(
            "At half the budget MATCHA keeps at least half of D-PSGD's rate log(1/rho), as in proportion",
            judge((name, share >= 0.5) for name, share in kept),
            f"share kept {spread(share for _, share in kept)}; not judged where rho is 0 or 1 at the full budget: "
            + ("; ".join(passed_over) or "none"),
        )
    )
    return statements


def leader_statements(frames: Frames) -> list[Statement]:
    rows, runs = frames["leader_mixing"], frames["leader_runs"]
    random = rows[rows["leaders"] == "random ranks"]
    readme = random[random["coefficients"] == "README"]
    core = random[random["coefficients"] == "core alone"]
    pull = random[random["coefficients"] != "core alone"]
    place = ["core", "level", "graphs"]

    def named(row) -> str:
        return f"{row['core']} {label(row)}"

    alone = core.set_index(place)["low"]
    agrees = [(f"{named(r)} ({r['coefficients']})",
               bool(r["low"] < BELOW_ONE) == bool(alone[tuple(r[k] for k in place)] < BELOW_ONE))
              for _, r in pull.iterrows()]  # fmt: skip
    crude = pull[(pull["one_step"] >= 1) & (pull["low"] < BELOW_ONE)]
    connected = readme[readme["low"] < BELOW_ONE]
    faster = [(named(r), r["low"] < alone[tuple(r[k] for k in place)] - 1e-9) for _, r in connected.iterrows()]
    statements = [
        Statement(
            "Columns of C_t sum to one (README coefficients, random loss ranks)",
            judge((named(r), r["column_rms"] < 1e-8) for _, r in readme.iterrows()),
            f"root mean square of (column sum - 1): {spread(readme['column_rms'])}",
        ),
        Statement(
            "One-step norm ||E[C^T (I-J) C]|| < 1 (README coefficients, random ranks, where the core agrees)",
            judge((named(r), r["one_step"] < 1) for _, r in connected.iterrows()),
            f"norm {spread(connected['one_step'])}",
        ),
        Statement(
            "A one-step norm below one is necessary for agreement",
            judge([("all", crude.empty)]),
            f"{len(crude)} of {len(pull)} cases have a norm of one or more and agree",
        ),
        Statement(
            "Over twelve steps the norm ||E[P^T (I-J) P]|| of the product is below one wherever the rate is",
            judge(
                (f"{named(r)} ({r['coefficients']})", r["norm_12"] < 1)
                for _, r in pull[pull["low"] < BELOW_ONE].iterrows()
            ),
            f"norm {spread(pull['norm_12'][pull['low'] < BELOW_ONE])}; over one period it reaches "
            f"{number(pull['period_norm'][pull['low'] < BELOW_ONE].max())}",
        ),
        Statement(
            "Random ranks: AL-DSGD agrees (spectral radius of M -> E[C^T M C] below one) exactly where its core does",
            judge(agrees),
            f"{len(agrees)} cases; rate where it agrees {spread(pull['low'][pull['low'] < BELOW_ONE])}",
        ),
        Statement(
            "Leaders speed agreement up (README coefficients, random ranks, against the core alone)",
            judge(faster),
            f"rate {spread(connected['low'])}, core alone {spread(alone[alone < BELOW_ONE])}",
        ),
    ]
    bad = rows[rows["leaders"] == "adversarial"]
    decided = [(f"{label(r)}", bool(r["high"] < 1)) for _, r in bad.iterrows()
               if r["high"] < 1 or r["low"] >= BELOW_ONE]  # fmt: skip
    unknown = [label(r) for _, r in bad.iterrows() if not (r["high"] < 1 or r["low"] >= BELOW_ONE)]
    statements.append(
        Statement(
            "Every sequence of leaders agrees, however losses are ordered (D-PSGD core, README coefficients)",
            judge(decided) + (f". Undecided: {'; '.join(unknown)}" if unknown else ""),
            "; ".join(
                f"{label(r)}: rate between {number(r['low'])} and "
                f"{'?' if math.isnan(r['high']) else number(r['high'])} ({r['how']})"
                for _, r in bad.iterrows()
            ),
        )  # fmt: skip
    )
    sure = rows[rows["leaders"] == "any"]
    statements.append(
        Statement(
            "The same for every core with nonnegative weights, by nonnegativity alone (Metropolis weights)",
            judge((label(r), r["high"] < BELOW_ONE) for _, r in sure.iterrows()),
            f"bound on the rate {spread(sure['high'])}",
        )
    )
    released = readme[readme["core"] == "dpsgd_released"]
    others = readme[readme["core"] != "dpsgd_released"]
    statements.append(
        Statement(
            "On the released two-matching schedule the maximum-degree leader is always the worker itself",
            judge((named(r), r["degree_leads"] == 0) for _, r in released.iterrows()),
            f"share of workers led by another: {spread(released['degree_leads'])}; "
            f"on full cores {spread(others['degree_leads'])}",
            code=True,
        )
    )
    statements.append(
        Statement(
            "Consensus averages the noise of all n workers (README coefficients, random ranks)",
            judge((named(r), r["averaged"] > r["workers"] * (1 - 1e-6)) for _, r in connected.iterrows()),
            f"of n = {spread(connected['workers'])} workers it averages {spread(connected['averaged'])}",
        )
    )
    seen, independent, lost, ratio = [], [], [], []
    for (name, level, graphs), own in runs.groupby(place, sort=False):
        model = readme[(readme["core"] == name) & (readme["level"].astype(str) == str(level))
                       & (readme["graphs"] == graphs)]["low"]  # fmt: skip
        rate = mean_interval(own["rate"])
        title = f"{name} {label({'level': level, 'graphs': graphs})}"
        seen.append((title, rate, float(model.iloc[0]) if len(model) else math.nan))
        independent.append(f"{title}: {interval(rate)}, random ranks {number(seen[-1][2])}")
        lost.append(f"{title}: {interval(mean_interval(own['averaged']))}")
        ratio.append((title, float(own["worst_ratio"].max())))
    statements += [
        Statement(
            "In real runs the workers agree (rate of the product that occurred below one)",
            judge((title, rate.high < 1) for title, rate, _ in seen),
            "; ".join(independent),
            DIGITS,
        ),
        Statement(
            "Random ranks predict the rate of real runs (the model lies in the interval over seeds)",
            judge((title, rate.low <= model <= rate.high) for title, rate, model in seen),
            "as above",
            DIGITS,
        ),
        Statement("In real runs consensus averages the noise of all workers",
                  judge([(title, mean_interval(own["averaged"]).high >= 8) for title, own in
                         ((f"{k[0]} {label({'level': k[1], 'graphs': k[2]})}", g)
                          for k, g in runs.groupby(place, sort=False))]), "; ".join(lost), DIGITS),
        Statement("C_t keeps the mean of the workers (real runs)",
                  judge([("all", bool((runs["drift"] < 1e-6).all()))]),
                  f"moves it per step by {spread(runs['drift'])} times the root of the consensus distance", DIGITS),
        Statement("The mean moves by at most ||C^T 1 - 1||/sqrt(n) times the root of the consensus distance",
                  judge((title, value <= 1 + 1e-6) for title, value in ratio),
                  f"largest measured share of the bound {spread(value for _, value in ratio)}", DIGITS, True),
    ]  # fmt: skip
    return statements


def leader_table(frames: Frames) -> str:
    """README coefficients on every core: the numbers that decide, beside those that do not."""
    rows = frames["leader_mixing"]
    readme = rows[(rows["coefficients"] == "README") & (rows["leaders"] == "random ranks")]
    core = rows[(rows["coefficients"] == "core alone")].set_index(["core", "level", "graphs"])
    bad = rows[rows["leaders"] == "adversarial"].set_index(["level", "graphs"])
    lines = []
    for _, r in readme.iterrows():
        key = (r["level"], r["graphs"])
        worst = bad.loc[key] if r["core"] == "dpsgd" and key in bad.index else None
        lines.append(
            {
                "core": r["core"],
                "graph": label(r),
                "core alone": number(core.loc[(r["core"], *key)]["low"]),
                "one-step norm": number(r["one_step"]),
                "rate, random ranks": number(r["low"]),
                "rate, worst leaders": ""
                if worst is None
                else f"{number(worst['low'])} to " + ("?" if math.isnan(worst["high"]) else number(worst["high"])),
                "column sums (rms - 1)": number(r["column_rms"]),
                "workers averaged": "none" if math.isnan(r["averaged"]) else number(r["averaged"]),
            }
        )
    return table(pd.DataFrame(lines))
