"""Statements about the four claims of LSGD's abstract (arXiv 1905.10395), judged from the tables of
``experiments.theory_lsgd``. ``lsgd_statements`` is what a report takes."""

import math

import pandas as pd

from aldsgd.statistics import mean_interval
from tables.theory_verdicts import Frames, Statement, judge, number, spread

#: Gradient norm below which a point counts as stationary, and speed below which a start counts as kept.
STILL = 1e-5


def cases(rows: pd.DataFrame, *more: str):
    """(name, rows) of each landscape and strength, over all seeds."""
    for keys, own in rows.groupby(["landscape", "strength", *more], sort=False):
        yield f"{keys[0]}, {keys[1]:g}" + "".join(", disturbed" for key in keys[2:] if key), own


def below(rows: pd.DataFrame, column: str, limit: float) -> tuple[str, str]:
    """Whether a column stays below a limit in every case in which anything rested, and its range."""
    known = rows.dropna(subset=[column])
    return judge((name, bool((own[column] < limit).all())) for name, own in cases(known)), spread(known[column])


def stationary(rest: pd.DataFrame) -> list[Statement]:
    """L1: the objective does not move stationary points."""
    leader, elastic = (rest[rest["method"] == method] for method in ("LGD", "EASGD"))
    found = [
        Statement(f"L1, {who} rests at a stationary point of f", verdict, f"largest gradient norm {text}")
        for who, (verdict, text) in {
            "LGD: the leader": below(leader, "best_gradient", STILL),
            "LGD: the mean, which its code tests,": below(leader, "mean_gradient", STILL),
            "EASGD: the best worker": below(elastic, "best_gradient", STILL),
            "EASGD: the centre, which is tested,": below(elastic, "centre_gradient", STILL),
        }.items()
    ]
    for method, rows in (("LGD", leader), ("EASGD", elastic)):
        verdict, text = below(rows, "off", 1e-12)
        found.append(Statement(f"L1, {method}: every worker rests at a stationary point of f", verdict,
                               f"share of workers that do not {text}"))  # fmt: skip
    verdict, text = below(pd.concat([leader, elastic]), "kept", STILL)
    found.append(Statement("L1, LGD and EASGD: a stationary point at which all workers start stays one", verdict,
                           f"largest speed there {text}"))  # fmt: skip
    return found


def decelerated(speed: pd.DataFrame) -> list[Statement]:
    """L2: no deceleration, of runs whose workers alone end apart."""
    found = []
    for method in ("LGD", "EASGD"):
        rows = speed[speed["method"] == method]
        kept = [(name, bool((own["reached"] > 1 - 1e-9).all())) for name, own in cases(rows)]
        found.append(
            Statement(
                f"L2, {method}: some worker gets as low as the best would alone",
                judge(kept),
                f"share of runs {spread(own['reached'].mean() for _, own in cases(rows))}",
            )
        )
        ratios = [(name, mean_interval(own["ratio"])) for name, own in cases(rows)]
        never = "; ".join(name for name, ratio in ratios if math.isinf(ratio.mean))
        endless = f" (infinite in a seed or more under {never})" if never else ""
        found.append(
            Statement(
                f"L2, {method}: and is not shown to come later (median ratio of times, interval over seeds)",
                judge((name, ratio.low <= 1) for name, ratio in ratios),
                f"ratio {spread(ratio.mean for _, ratio in ratios)}{endless}; slower in "
                f"{spread(own['slower'].mean() for _, own in cases(rows))} of the runs, faster in "
                f"{spread(own['faster'].mean() for _, own in cases(rows))}",
            )
        )
    return found


def symmetric(rows: pd.DataFrame) -> list[Statement]:
    """L3: the curse of symmetry, from mirrored starts."""
    found = []
    for method, column, who in (
        ("LGD", "best", "the leader"), ("LGD", "mean", "the mean"), ("LGD", "worst", "every worker"),
        ("EASGD", "best", "the best worker"), ("EASGD", "centre", "the centre"),
        ("no exchange", "best", "the best worker"), ("no exchange", "mean", "the mean"),
    ):  # fmt: skip
        own = rows[rows["method"] == method]
        trapped = f"{column}_trapped"
        found.append(
            Statement(
                f"L3, {method}, mirrored starts: {who} ends below half of the saddle's height",
                judge((name, bool((part[trapped] == 0).all())) for name, part in cases(own, "disturbed")),
                f"share of runs that do not {spread(part[trapped].mean() for _, part in cases(own, 'disturbed'))}",
            )
        )
    return found


def communicated(traffic: pd.DataFrame) -> list[Statement]:
    """L4: less communication, of one exchange."""
    table = {
        column: traffic.pivot(index="workers", columns="method", values=column) for column in ("models", "seconds")
    }
    found = []
    for column, said in (("models", "sends fewer models than"), ("seconds", "takes less modelled time than")):
        for other in ("all-reduce", "EASGD, server"):
            ratio = table[column]["LSGD"] / table[column][other]
            found.append(
                Statement(
                    f"L4, one exchange of LSGD (a tree of whole models) {said} one of {other}",
                    judge((f"{n} workers", value < 1 - 1e-3) for n, value in ratio.items()),
                    f"{number(100 * ratio.min())} to {number(100 * ratio.max())} % of it",
                )
            )
    return found


def lsgd_statements(frames: Frames) -> list[Statement]:
    """All of them, in the order of the abstract."""
    return [
        *stationary(frames["lsgd_rest"]),
        *decelerated(frames["lsgd_speed"]),
        *symmetric(frames["lsgd_symmetry"]),
        *communicated(frames["lsgd_traffic"]),
    ]
