"""Claim under test: at equal bytes leaders add something to gossip by a good schedule, with momentum, or annealed.

What:     D-PSGD, DSGD-AC, AL-DSGD, and AL-DSGD on DSGD-AC (leaders that fade with its gossip); on a static graph (the
          paper's 53.8 % graph of 8 workers, MATCHA's first graph of 16), the hypercube, the directed one-peer
          exponential graph, OU-EquiDyn with h = 1/2, and random matchings; on the first two with Nesterov momentum 0.9
          too, and AL-DSGD on DSGD-AC there alone. base:2 is the hypercube at these n (a test compares them).
          Equal bytes: who sends less trains for more epochs, as near to the bytes of the static graph as whole epochs
          come, its schedule of rates stretched over them. One-peer schedules of 8 workers so have 14 epochs for 8, of
          16 workers 22. IID shards, five seeds.
          cpu: Fashion-MNIST, 4,096 training images of its own for each seed, 2,000 test images, a narrow MLP.
          paper: CIFAR-10, narrow ResNet-50, 200 epochs on the static graph.
          DSGD-AC mixes before it moves, which the negative eigenvalues of equal weights make unstable unless the rate
          is small: on the static graph it has Metropolis weights, with and without leaders.
Rates:    each method has a search of its own on the static graph and on the hypercube, with and without momentum, for
          either number of workers; other one-peer schedules take that of the hypercube.
Command:  python -m experiments.schedules --data DIR
Hardware: one CPU core; 250 runs of about 3 s.
Expect:   written before the runs. Leaders add something where the interval of the difference to the same core, same
          schedule, same momentum, paired by seed, lies above zero for the mean worker. The field predicts no gain: a
          pull is more contraction, of which the hypercube has enough and DSGD-AC wants less.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from aldsgd.graphs import parse
from aldsgd.links import Link
from aldsgd.schedules import parse as schedule_of
from experiments.configuration import RunConfig
from experiments.scales import GRAPH, Entry, method, script
from experiments.today import NESTEROV, Row, at_rates, longer

STATIC = {8: GRAPH, 16: "matcha:1"}
ONE_PEER = ("hypercube", "one_peer", "equidyn", "matching")
COMPARED = ("D-PSGD", "DSGD-AC", "AL-DSGD on D-PSGD")
ON_ANNEALED = "AL-DSGD on DSGD-AC"
#: Steps over which random schedules are counted.
SAMPLE = 512


@lru_cache
def models_a_step(graph: str, workers: int) -> float:
    """Models that all workers send in a step, on average."""
    schedule = schedule_of(graph, workers)
    if schedule is None:
        return 2.0 * len(parse(graph, workers).edges)
    return float(np.mean([schedule.at(t).links.cost(1, Link())[0] for t in range(schedule.period or SAMPLE)]))


def at_equal_bytes(config: RunConfig, than: str) -> RunConfig:
    """The run over as many epochs as send nearest to what it would send on the graph ``than``."""
    more = models_a_step(than, config.workers) / models_a_step(config.graph, config.workers)
    return longer(config, max(1, round(config.epochs * more)))


def rows(base: RunConfig) -> Iterator[Row]:
    """Every method on every schedule."""
    for workers, static in STATIC.items():
        for graph in (static, *ONE_PEER):
            name, kind = ("static", "static") if graph == static else (graph, "one peer")
            for momentum in ("", ", momentum") if graph in (static, "hypercube") else ("",):
                on = base.but(workers=workers, graph=graph, **(NESTEROV if momentum else {}))
                for label in (*COMPARED, *([ON_ANNEALED] if graph in (static, "hypercube") else [])):
                    config = method(on, label)
                    if graph == static and label in (COMPARED[1], ON_ANNEALED):
                        config = config.but(weights="metropolis")
                    yield Row(
                        f"{label}, {name}, n = {workers}{momentum}",
                        at_equal_bytes(config, static),
                        f"{name}, n = {workers}{momentum}",
                        f"schedules, {'16 workers, ' * (workers == 16)}{kind}{momentum}, {label}",
                    )


def configurations(preset: str, seed: int) -> list[Entry]:
    """One entry a row; preset smoke has eight workers on the hypercube alone, and on the static graph with momentum."""
    shown = ("hypercube, n = 8", "static, n = 8, momentum")

    def short(base: RunConfig) -> Iterator[Row]:
        yield from rows(base.but(epochs=1) if preset == "smoke" else base)

    return at_rates(short, preset, seed, lambda row: row.condition in shown)


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
