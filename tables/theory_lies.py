"""What THEORY.md says of a worker that lies about its loss."""

import numpy as np

from tables.theory_verdicts import Frames, Statement, judge, number, spread

GRAPHS = "the paper's graphs, every worker as the attacker"


def lies_statements(frames: Frames) -> list[Statement]:
    attacks, points = frames["lies_attacks"], frames["lies_breakdown"]
    keys = ["level", "attacker"]
    by_way = {way: rows.set_index(keys) for way, rows in attacks.groupby("way", sort=False)}
    lie, truth, plain = (by_way[way] for way in ("AL-DSGD, lie", "AL-DSGD, truth", "D-PSGD"))
    certain = attacks[attacks["way"] != "AL-DSGD, truth"]
    gains = {level: rows for level, rows in (lie["share"] / plain["share"]).groupby(level=0, sort=False)}
    closed = np.abs(lie["factor"] - lie["share"] / plain["share"]).max()
    return [
        Statement(
            "One step moves the honest mean by the share that is derived, with D-PSGD and with AL-DSGD under the lie",
            judge([("all", bool(np.abs(certain["share"] - certain["measured"]).max() < 1e-12 and closed < 1e-8))]),
            f"largest difference {number(np.abs(certain['share'] - certain['measured']).max())}; told truly, where "
            "losses are drawn, at most "
            f"{number(np.abs(truth['share'] - truth['measured']).max())}",
            GRAPHS,
        ),
        Statement(
            "The lie gains influence over D-PSGD",
            judge((level, bool((gain > 1).all())) for level, gain in gains.items()),
            "factor on the honest mean in one step: "
            + "; ".join(f"{level} %: {spread(gain)}" for level, gain in gains.items()),
            GRAPHS,
        ),
        Statement(
            "The lie gains influence over the truth",
            judge((level, bool((gain > 1).all()))
                  for level, gain in (lie["share"] / truth["share"]).groupby(level=0, sort=False)),
            "; ".join(f"{level} %: {spread(gain)}"
                      for level, gain in (lie["share"] / truth["share"]).groupby(level=0, sort=False)),
            GRAPHS,
        ),
        Statement(
            "An attacker that always sends the same row draws the honest half the way sooner by a lie than with D-PSGD",
            judge((level, bool((rows < plain["half"].loc[[level]]).all()))
                  for level, rows in lie["half"].groupby(level=0, sort=False)),
            "steps: " + "; ".join(f"{level} %: {spread(rows)} against {spread(plain['half'].loc[[level]])}"
                                  for level, rows in lie["half"].groupby(level=0, sort=False)),
            GRAPHS,
        ),
        Statement(
            "It reaches each worker after as many steps as there are links between, with and without leaders",
            judge([("all", bool((attacks["hops"] == attacks["hops_measured"]).all()))]),
            f"at most {attacks['hops'].max()} steps",
            GRAPHS,
        ),
        Statement(
            "Every worker withstands one faulty neighbour",
            judge((f"{row.defence}, {row.level} %", bool(row.withstand_1 == row.workers)) for row in
                  points.itertuples()),
            "workers of eight that do, and of these those that hear nobody any more: "
            + "; ".join(f"{row.defence}, {row.level} %: {row.withstand_1}" + f" ({row.alone})" * bool(row.alone)
                        for row in points.itertuples()),
            "coordinates within the range of the honest, for clip within a bound; trimmed with b = 1",
        ),
    ]  # fmt: skip
