"""Statements about both orders and periods, and about what AL-DSGD minimises, judged from their tables."""

import numpy as np
import pandas as pd

from aldsgd.statistics import mean_interval, paired_interval
from tables.theory_training import ADDITIVE
from tables.theory_verdicts import BELOW_ONE, Frames, Statement, few_enough, interval, judge, label, number, spread

DIGITS = "MLP on the digits"
RARE = "logistic regression with a rare class"
RANKS = "any losses, random loss ranks"


def orders_statements(frames: Frames) -> list[Statement]:
    rows, runs = frames["orders_mixing"], frames["orders_runs"]
    place = ["core", "level", "graphs"]

    def named(row) -> str:
        return f"{row['core']} {label(row)}, {row['way']}"

    released = rows[rows["way"] == "released"].set_index(place)
    agrees = [(named(r), (r["rate"] < BELOW_ONE) == (released["rate"][tuple(r[k] for k in place)] < BELOW_ONE))
              for _, r in rows.iterrows()]  # fmt: skip
    printed = rows[(rows["way"] == "printed") & (rows["rate"] < BELOW_ONE)]
    own = [released.loc[tuple(r[k] for k in place)] for _, r in printed.iterrows()]
    settled = rows[rows["rate"] < BELOW_ONE]
    statements = [
        Statement(
            "Both orders, leaders at every, every 2nd or every 40th step: all agree (spectral radius of "
            "M -> E[M_t^T M M_t], M_t = C_t B_t, over a period) exactly where the released order at every step does",
            judge(agrees),
            f"{len(agrees)} cases; rate per step where they agree: "
            + "; ".join(f"{way} {spread(g['rate'])}" for way, g in settled.groupby("way", sort=False)),
            RANKS,
        ),
        Statement(
            "One-step norm ||E[M_t^T (I-J) M_t]|| < 1 in the printed order (where it agrees)",
            judge((named(r), r["one_step"] < 1) for _, r in printed.iterrows()),
            f"norm {spread(printed['one_step'])}",
            RANKS,
        ),
        Statement(
            "The printed order (force as it is) agrees no slower than the released one",
            judge((named(r), r["rate"] <= o["rate"] + 1e-9) for (_, r), o in zip(printed.iterrows(), own, strict=True)),
            f"rate {spread(printed['rate'])}, released {spread(o['rate'] for o in own)}",
            RANKS,
        ),
        Statement(
            "It averages no fewer workers' noise than the released one",
            judge((named(r), r["averaged"] >= o["averaged"] - 1e-9)
                  for (_, r), o in zip(printed.iterrows(), own, strict=True)),
            "workers of 8: "
            + "; ".join(f"{way} {spread(g['averaged'])}" for way, g in settled.groupby("way", sort=False)),
            RANKS,
        ),
        Statement(
            "The mean of the workers is kept (M_t in every order and period)",
            judge((named(r), r["drift"] < 1e-7) for _, r in rows.iterrows()),
            "largest move in units of the root of the consensus distance: "
            + "; ".join(f"{way} {spread(g['drift'])}" for way, g in rows.groupby("way", sort=False)),
            RANKS,
        ),
    ]  # fmt: skip
    model = rows[(rows["core"] == "dpsgd") & (rows["level"] == "53.8") & (rows["graphs"] == 1)].set_index("way")["rate"]
    seen = {way: mean_interval(g["rate"].to_numpy()) for way, g in runs.groupby("way", sort=False)}
    apart = {way: paired_interval(list(g["distance_late"]), list(g["distance_early"]))
             for way, g in runs.groupby("way", sort=False)}  # fmt: skip
    statements += [
        Statement(
            "In real runs the workers agree, at the rate of random ranks (which lies in the interval over seeds)",
            judge((way, found.high < 1 and found.low <= model[way] <= found.high) for way, found in seen.items()),
            "; ".join(f"{way}: {interval(found)}, random ranks {number(model[way])}" for way, found in seen.items()),
            DIGITS,
        ),
        Statement(
            "The force is bounded: max ||x_i - x_leader|| is no larger in the last quarter of a run than in the second",
            judge((way, found.high <= 0) for way, found in apart.items()),
            "; ".join(f"{way}: {number(g['distance_early'].mean())} to {number(g['distance_late'].mean())}, difference "
                      f"{interval(apart[way])}" for way, g in runs.groupby("way", sort=False)),
            DIGITS,
        ),
    ]  # fmt: skip
    rate = frames["orders_rate"]
    slopes, bounds = {}, []
    for key, g in rate.groupby(["problem", "way", "judge"], sort=False):
        name = f"{key[0]}, {key[1]}, {'own losses' if key[2] == 'own' else 'a second draw'}"
        table = g.pivot(index="K", columns="seed", values="value")
        slopes[name] = mean_interval(np.polyfit(np.log(table.index.to_numpy(float)), np.log(table.to_numpy()), 1)[0])
        bounds += [(name, mean_interval(k["value"].to_numpy()).high <= k["bound"].iloc[0])
                   for _, k in g.groupby("K") if k["bound"].notna().all()]  # fmt: skip
    problems = f"{ADDITIVE}; non-convex logistic regression"
    statements += [
        Statement(
            "O(1/sqrt(K)): the slope in K is nearer to -1/2 than to 0, a floor (upper end of its interval below -1/4)",
            judge((name, found.high < -0.25) for name, found in slopes.items()),
            "; ".join(f"{name}: {interval(found)}" for name, found in slopes.items()),
            problems,
        ),
        Statement(
            "They obey the bound that is proved only for their core (upper end of the interval)",
            judge(bounds),
            f"{sum(not holds for _, holds in bounds)} of {len(bounds)} settings exceed it",
            problems,
        ),
    ]
    limits = {}
    for (graph, way), g in frames["orders_floor"].groupby(["graph", "way"], sort=False):
        table = g.pivot(index="eta", columns="seed", values="value").sort_index()
        (small, large), floor = table.index[:2], g["floor"].iloc[0]
        values = (large * table.iloc[0] - small * table.iloc[1]) / (large - small) / floor
        limits[f"{graph}, {way}"] = mean_interval(values.to_numpy())
    exact = frames["orders_exact"]
    outside = (exact["exact"] < exact["low"]) | (exact["exact"] > exact["high"])
    statements += [
        Statement(
            "With additive noise the squared gradient stops, as eta goes to 0, at `selection.selection_floor` of the "
            "order and period (the interval of the limit holds it)",
            judge((name, found.low <= 1 <= found.high) for name, found in limits.items()),
            "limit over floor: " + "; ".join(f"{name}: {interval(found)}" for name, found in limits.items()),
            ADDITIVE,
        ),
        Statement(
            "Exact moments of the printed order and of longer periods are what simulation shows",
            judge(
                (way, few_enough(int(outside[g.index].sum()), len(g))) for way, g in exact.groupby("way", sort=False)
            ),
            f"{int(outside.sum())} of {len(exact)} 95 % intervals miss them",
            ADDITIVE,
            True,
        ),
    ]
    return statements


def selection_statements(frames: Frames) -> list[Statement]:
    points, squares, paths = (frames[f"selection_{name}"] for name in ("points", "squares", "trajectory"))
    shares = {key: mean_interval(g["share"].to_numpy())
              for key, g in points.groupby(["method", "graph", "eta"], sort=False)}  # fmt: skip

    def about(chosen, truth: float) -> tuple[str, str]:
        own = {key: found for key, found in shares.items() if chosen(*key)}
        return (
            judge((f"{key[0]}, {key[1]}, eta {key[2]:g}", found.low <= truth <= found.high)
                  for key, found in own.items()),
            "share of the way: " + "; ".join(f"{key[0]}, {key[1]}, eta {key[2]:g}: {interval(found)}"
                                             for key, found in own.items()),
        )  # fmt: skip

    follows = ("AL-DSGD", "printed order", "printed order, force times eta", "every second step")
    largest = points["eta"].max()
    statements = [
        Statement(
            "AL-DSGD settles at the minimiser of the mixture (1 - w) F + sum_k w_k M_k (share of the way from F's to "
            "the mixture's, 1 in the interval), small steps",
            *about(lambda method, graph, eta: method in follows and eta < largest, 1.0),
            RARE,
        ),
        Statement(
            f"and at the largest step, eta = {largest:g}",
            *about(lambda method, graph, eta: method in follows and eta == largest, 1.0),
            RARE,
        ),
        Statement(
            "Judged by a second draw, at random, or without leaders it settles at the minimiser of F (0 in the "
            "interval)",
            *about(lambda method, graph, eta: method in ("second draw", "random leaders", "D-PSGD"), 0.0),
            RARE,
        ),
        Statement(
            "and so it does judged by a running average of losses (memory 0.9)",
            *about(lambda method, graph, eta: method == "running average", 0.0),
            RARE,
        ),
    ]
    plain = points[points["method"] == "D-PSGD"]
    loses = {}
    for (graph, eta), core in plain.groupby(["graph", "eta"], sort=False):
        led = points[(points["method"] == "AL-DSGD") & (points["graph"] == graph) & (points["eta"] == eta)]
        for what in ("recall", "rare_loss"):
            loses[graph, what] = (
                paired_interval(list(led[what]), list(core[what])),
                led[what].mean(),
                core[what].mean(),
            )
    statements.append(
        Statement(
            "AL-DSGD finds the rare class less often than D-PSGD",
            judge((graph, found.high < 0) for (graph, what), (found, *_) in loses.items() if what == "recall"),
            "; ".join(f"{graph}: {'recall' if what == 'recall' else 'loss'} of the rare class {number(led)} against "
                      f"{number(core)}, difference {interval(found)}"
                      for (graph, what), (found, led, core) in loses.items()),
            RARE,
        )
    )  # fmt: skip
    closest = [(f"{graph}, eta {eta:g}", g["AL-DSGD to mixture"].max(), g["AL-DSGD to F"].max())
               for (graph, eta), g in paths.groupby(["graph", "eta"], sort=False)]  # fmt: skip
    statements.append(
        Statement(
            "SGD on the mixture with the same batches stays nearer to AL-DSGD's mean trajectory from zero than on F "
            "(largest distance on the way)",
            judge((name, own < other) for name, own, other in closest),
            "in units of the distance between the minimisers, to the mixture's and to F's: "
            + "; ".join(f"{name}: {number(own)} and {number(other)}" for name, own, other in closest),
            RARE,
        )
    )
    table = squares.groupby(["judge", "seed", "eta"])["gradient2"].mean().unstack()
    if table.shape[1] > 1:
        slope = pd.Series(
            np.polyfit(np.log(table.columns.to_numpy(float)), np.log(table.to_numpy().T), 1)[0], table.index
        )
        found = {who: mean_interval(g.to_numpy()) for who, g in slope.groupby(level="judge")}
        statements.append(
            Statement(
                "On least squares the squared gradient goes to zero with eta although leaders follow their own draw "
                "(log-log slope nearer to 1, in proportion, than to 0, a floor)",
                judge(("own losses" if who == "own" else "a second draw", f.low > 0.5) for who, f in found.items()),
                "; ".join(f"{who}: slope {interval(f)}, squared gradient "
                          + ", ".join(f"{number(v)} at {eta:g}" for eta, v in table.loc[who].mean()[::-1].items())
                          for who, f in found.items()),
                "least squares with label noise",
            )
        )  # fmt: skip
    return statements
