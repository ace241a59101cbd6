"""Claim: each rule of who leads has the learning rate that is best for it, chosen before any comparison.

What:     the rules of ``experiments.who_leads`` under its conditions, as far as ``experiments.own_rates`` has no
          rate of theirs, over grids of at least four rates; one seed (100) that no comparison uses. The rule: the
          largest mean worker accuracy at the last epoch on 5,000 images held out of the training images.
Command:  python -m experiments.leader_rates --data DIR
Hardware: one CPU core; 132 runs of about 3 s, more where the best lay at an edge.
Expect:   each best rate lies inside its grid; a test compares it with the one that is used.
"""

from experiments.own_rates import Setting, held_out
from experiments.rates import OWN
from experiments.scales import MID_FASHION, SMOKE, TUNING_SEED, Entry, method, script
from experiments.who_leads import CONTROLS, RULES, conditions

SEEDS = dict.fromkeys(("smoke", "cpu"), (TUNING_SEED,))

SETTINGS: dict[str, Setting] = {
    f"fashionmnist, {name}": Setting(
        lambda lr, name=name: conditions(MID_FASHION.but(lr=lr))[name],
        tuple(label for label in CONTROLS + RULES if label not in OWN.get(f"fashionmnist, {name}", {})),
        (0.05, 0.1, 0.2, 0.4) if name.startswith("skew") else (0.1, 0.2, 0.4, 0.8),
    )
    for name in conditions(MID_FASHION)
}


def configurations(preset: str, seed: int) -> list[Entry]:
    """One run per setting, method and rate, labelled "fashionmnist, skew 0.1, AL-DSGD, soft, lr 0.2"."""
    if preset == "smoke":
        base = SMOKE.but(validation=64, seed=seed)
        return [
            (f"digits, AL-DSGD, soft, lr {lr:g}", method(base.but(lr=lr), "AL-DSGD, soft"), "digits")
            for lr in (0.1, 0.2)
        ]
    return [
        (f"{name}, {label}, lr {lr:g}", method(held_out(setting.at(lr)), label).but(seed=seed), name)
        for name, setting in SETTINGS.items()
        for label in setting.methods
        for lr in (*setting.rates, *setting.more.get(label, ()))
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
