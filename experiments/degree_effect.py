"""Claim: on a static graph a worker with few neighbours ends worse; rotating graphs even this out.

What:     every worker's accuracy against its degree in graph A, with one graph and with three in turn, D-PSGD and
          AL-DSGD, at 100 % (degrees 1 to 5) and 53.8 % (1 to 3). The slope is fitted per run, so that an interval over
          seeds counts runs, not workers.
          cpu and paper: the runs of ``sparsity``; nothing else is trained.
Command:  python -m experiments.degree_effect --data DIR
Hardware: one CPU core; 40 runs of about 13 s each, 9 minutes, none where ``sparsity`` has been run.
Expect:   a slope above zero where degree matters, closer to zero with three graphs.
"""

from experiments.scales import CIFAR10, Entry, script
from experiments.sparsity import cell


def configurations(preset: str, seed: int) -> list[Entry]:
    """Two methods, two levels, one and three graphs, labelled as in ``sparsity``."""
    base = CIFAR10[preset].but(seed=seed)
    return [
        (f"{label}, {graphs} graph{'s' * (graphs > 1)}, {level} %", cell(base, label, level, graphs))
        for level in ("100", "53.8")
        for label in ("D-PSGD", "AL-DSGD on D-PSGD")
        for graphs in (1, 3)
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
