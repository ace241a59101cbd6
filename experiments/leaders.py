"""Claim under test: a leader of all, or of groups, serves as well as a leader among neighbours, and for less traffic.

What:     LSGD with one group, two of four and four of two, LSGD+, EASGD, MGRAWA, WASGD+ and DPPF at their defaults
          (exchanges every 4 to 32 steps, no momentum) against AL-DSGD on D-PSGD, D-PSGD and all-reduce (every step):
          equal epochs, with bytes and modelled time beside. Identical workers; rates over two decades; 60 % wrong
          labels at 2, 4, 6 of eight; Dirichlet skew 0.1; one worker with nothing but wrong labels.
          cpu: Fashion-MNIST, 2,500 training and 2,000 test images of their own for each seed, an MLP, 8 epochs, ten
          seeds; each at its own best rate under each condition (``experiments.leader_rates``).
          paper: CIFAR-10, narrow ResNet-50, 200 epochs, all at one rate.
Command:  python -m experiments.leaders --data DIR
Hardware: one CPU core; 770 runs of about 1.5 s.
Expect:   open. Judged by batches of their own shards, leaders of all should suffer most from skew. Before the runs of
          rates, noise at 2 and 6, and one broken: if losses tell whom to follow, LSGD's worst worker is better than
          all-reduce's with noise at 6 and with spread rates; where all-reduce's is better, they tell less than a mean.
"""

from experiments.configuration import RunConfig
from experiments.heterogeneous import NOISE, spread_rates
from experiments.scales import Entry, script
from experiments.who_leads import SEEDS, compared

FAMILIES = (
    "LSGD", "LSGD, 2 groups of 4", "LSGD, 4 groups of 2", "LSGD+", "EASGD", "MGRAWA", "WASGD+", "DPPF",
)  # fmt: skip
COMPARED = ("D-PSGD", "all-reduce", "AL-DSGD on D-PSGD", *FAMILIES)


def conditions(base: RunConfig) -> dict[str, RunConfig]:
    """How the workers differ, by name."""
    return {
        "identical": base,
        "lr rises with degree": base.but(lr=spread_rates(base, True)),
        **{f"noise at {k}": base.but(label_noise=NOISE, noisy_workers=k) for k in (2, 4, 6)},
        "skew 0.1": base.but(split="dirichlet", dirichlet_alpha=0.1),
        "one broken": base.but(label_noise=1.0, noisy_workers=1),
    }


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method under every condition, labelled "LSGD, noise at 4"."""
    return compared(preset, seed, COMPARED, conditions)


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
