"""Claim: each rule of who leads has the learning rate that is best for it, chosen before any comparison.

What:     the methods of ``experiments.who_leads`` and ``experiments.leaders`` under their conditions, those of
          ``experiments.leaders_cifar10`` where workers are alike and those of ``experiments.equal_time`` at twice the
          epochs, over grids of at least four rates; one seed (100) that no comparison uses. The rule: the largest mean
          worker accuracy at the last epoch on 5,000 images held out of the training images; the test set is never
          looked at.
Command:  python -m experiments.leader_rates --data DIR
Hardware: one CPU core; 659 runs of about 1.5 s, 31 of them of 15 s.
Expect:   each best rate lies inside its grid; a test compares it with the one that is used.
"""

from experiments import equal_time, leaders, leaders_cifar10, who_leads
from experiments.configuration import RunConfig
from experiments.own_rates import held_out
from experiments.scales import CPU_CIFAR10, LEADING, SMOKE, TUNING_SEED, TWICE, Entry, method, script, twice

SEEDS = dict.fromkeys(("smoke", "cpu"), (TUNING_SEED,))
#: First word of a condition -> its grid; ``ELSE`` for the others.
GRIDS = {"skew": (0.05, 0.1, 0.2, 0.4), "lr": (0.0125, 0.025, 0.05, 0.1), leaders_cifar10.CHOSEN: (0.2, 0.4, 0.8, 1.6)}
ELSE = (0.1, 0.2, 0.4, 0.8)
#: Further rates of what exchanges rarely.
RARE = (0.025, 0.05)
#: Condition -> method -> further rates, where the best was at an edge of the grid.
MORE: dict[str, dict[str, tuple[float, ...]]] = {
    "identical": {"DSGD-AC": (0.0125, 0.025, 0.05)},
    "noise at 4": {"DSGD-AC": (0.0125, 0.025, 0.05), "DSGD-AC, Metropolis": (0.05,)},
    "lr rises with degree": {"LSGD, 2 groups of 4": (0.2, 0.4), "LSGD, 4 groups of 2": (0.2, 0.4)},
    "skew 0.1": {
        "DSGD-AC": (0.0125, 0.025), "all-reduce": (0.8,), "AL-DSGD, soft": (0.8,), "soft gossip": (0.8, 1.6),
        "soft gossip, receiver judges": (0.8, 1.6), "LSGD, 2 groups of 4": (0.8,), "LSGD, 4 groups of 2": (0.8,),
        "MGRAWA": (0.8,),
    },
    leaders_cifar10.CHOSEN: {"all-reduce": (3.2,), "AL-DSGD on D-PSGD": (3.2,), "LSGD": (0.1,)},
    f"skew 0.1, {TWICE}": {"all-reduce": (0.8,), "AL-DSGD on D-PSGD": (0.8,)},
}  # fmt: skip


def grid(condition: str, label: str) -> tuple[float, ...]:
    """The rates of a method under a condition."""
    rare = RARE if label in leaders.FAMILIES else ()
    first = condition.split()[0].rstrip(",")
    return (*GRIDS.get(first, ELSE + rare), *MORE.get(condition, {}).get(label, ()))


def at(condition: str, lr: float) -> RunConfig:
    """The setting of a condition at a rate."""
    if condition == leaders_cifar10.CHOSEN:
        return CPU_CIFAR10.but(lr=lr)
    name, _, longer = condition.partition(", ")
    config = leaders.conditions(LEADING.but(lr=lr))[name]
    return twice(config) if longer else config


def configurations(preset: str, seed: int) -> list[Entry]:
    """One run per condition, method and rate, labelled "skew 0.1, AL-DSGD, soft, lr 0.2"; those of ``who_leads``
    first."""
    if preset == "smoke":
        base = SMOKE.but(validation=64, seed=seed)
        return [(f"digits, D-PSGD, lr {lr:g}", method(base.but(lr=lr), "D-PSGD"), "digits") for lr in (0.1, 0.2)]
    rules = [(name, label) for name in who_leads.conditions(LEADING) for label in who_leads.COMPARED]
    names = dict.fromkeys((*who_leads.conditions(LEADING), *leaders.conditions(LEADING)))
    others = [(name, label) for name in names for label in leaders.COMPARED]
    others += [(leaders_cifar10.CHOSEN, label) for label in leaders_cifar10.COMPARED]
    others += [(f"{name}, {TWICE}", label)
               for name in who_leads.conditions(LEADING) for label in equal_time.LONGER]  # fmt: skip
    return [
        (f"{name}, {label}, lr {lr:g}", method(held_out(at(name, lr)), label).but(seed=seed), name)
        for name, label in dict.fromkeys(rules + others)
        for lr in grid(name, label)
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
