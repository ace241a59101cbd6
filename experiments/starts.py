"""Claim under test: how the workers start, and whose BatchNorm statistics are tested, does not decide the comparison.

What:     D-PSGD and AL-DSGD from the same model, from the mean of random ones (MATCHA's code), from different ones (the
          released code), and from different ones with each tensor scaled by U(0, 2) (the released three-graph script).
          Statistics of tested models: each worker's own, averaged over workers, re-estimated for the averaged model.
          8 workers on the paper's 53.8 % graph, five seeds.
          cpu: as ``convergence`` (CIFAR-10 cut to 6,000 images, 8 epochs). paper: 200 epochs of all of it.
Command:  python -m experiments.starts --data DIR
Hardware: one CPU core; 80 runs of about 13 s each, 17 minutes (20 of them are shared with other experiments).
Expect:   the averaged model of workers that started apart needs its own statistics; workers themselves do not.
"""

from experiments.scales import CIFAR10, Entry, method, script

STARTS = {
    "same": {"start": "same"},
    "mean": {"start": "mean"},
    "different": {"start": "different"},
    "different, scaled": {"start": "different", "start_scaled": True},
}
STATISTICS = (
    *((name, "reestimated") for name in STARTS),
    *((name, policy) for name in ("same", "different") for policy in ("own", "averaged")),
)


def configurations(preset: str, seed: int) -> list[Entry]:
    """Two methods, labelled "D-PSGD, same start, own statistics"."""
    base = CIFAR10[preset].but(seed=seed)
    return [
        (f"{label}, {name} start, {policy} statistics", method(base, label).but(batchnorm=policy, **STARTS[name]))
        for label in ("D-PSGD", "AL-DSGD on D-PSGD")
        for name, policy in STATISTICS
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
