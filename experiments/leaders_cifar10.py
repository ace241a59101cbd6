"""Claim under test: what leaders do on small images of clothes they do on CIFAR-10 with a convolutional network.

What:     of ``experiments.leaders`` and ``experiments.proposal`` what matters: D-PSGD, all-reduce, DSGD-AC on
          Metropolis weights (with equal ones its order is unstable), AL-DSGD on D-PSGD, the repository's own rule, LSGD
          and EASGD at their defaults. Identical workers, 60 % wrong labels at four of eight, and Dirichlet skew 0.1.
          cpu: 53.8 % graph, CIFAR-10 cut to 6,000 training and 2,000 test images, a small convolutional network,
          8 epochs, five seeds. Each method at its best rate of at least four (``experiments.leader_rates``, "cifar10"),
          searched where workers are alike and used under every condition.
Command:  python -m experiments.leaders_cifar10 --data DIR
Hardware: one CPU core; 105 runs of about 15 s.
Expect:   written before the runs. If Fashion-MNIST told something about leaders and not about itself, then here too the
          repository's own rule is above the paper's in the mean over the conditions, and all-reduce above both under
          each. If the paper's rule or LSGD is above D-PSGD where workers are alike, with an interval without zero, what
          the README says of leaders is too narrow.
"""

from experiments.configuration import RunConfig
from experiments.proposal import PROPOSED
from experiments.rates import LEADERS
from experiments.scales import CPU_CIFAR10, SMOKE, Entry, script
from experiments.who_leads import compared, conditions

SEEDS = {"smoke": (0, 1), "cpu": (0, 1, 2, 3, 4)}
BASES = {"smoke": SMOKE, "cpu": CPU_CIFAR10.but(eval_every=CPU_CIFAR10.epochs)}
CONDITIONS = ("identical", "noise at 4", "skew 0.1")
COMPARED = ("D-PSGD", "DSGD-AC, Metropolis", "all-reduce", "AL-DSGD on D-PSGD", PROPOSED, "LSGD", "EASGD")
#: Condition of ``experiments.leader_rates`` whose rates serve all.
CHOSEN = "cifar10"


def chosen(base: RunConfig) -> dict[str, RunConfig]:
    """Those of ``CONDITIONS``, by name."""
    return {name: conditions(base)[name] for name in CONDITIONS}


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method under every condition, labelled "LSGD, identical"."""
    rates = dict.fromkeys(CONDITIONS, LEADERS.get(CHOSEN, {}))
    return compared(preset, seed, COMPARED, chosen, BASES, rates)


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
