"""Claim under test: bytes are better spent on rare exchanges, or late, than at every step; leaders do not change that.

What:     local SGD (all-reduce every tau steps), the same with gossip and with AL-DSGD inside, SlowMo, DiLoCo and
          NoLoCo, tau = 4 and 16; post-local SGD (tau = 16 after half the epochs); the bytes of tau = 16 spent late
          (gossip at every step of the last sixteenth) and models averaged once at the end; that merge alone; and
          all-reduce, D-PSGD and AL-DSGD at every step. 8 workers, the paper's 53.8 % graph, IID shards, five seeds.
          cpu: Fashion-MNIST, 4,096 training images of its own for each seed, 2,000 test images, a narrow MLP, 8 epochs
          of 32 steps. paper: CIFAR-10, narrow ResNet-50, 200 epochs.
          Workers start from different models, whose mean is no model: what merges late has rows with a common start
          too, which were added when the others had been seen.
Rates:    a search for each row, except that the merge alone takes that of the late bytes; D-PSGD and AL-DSGD have that
          of ``experiments.schedules``.
Command:  python -m experiments.local_steps --data DIR
Hardware: one CPU core; 105 runs of about 2 s.
Expect:   written before the runs. Bytes spent late are better than the same bytes spent evenly where the interval of
          the mean worker after the merge, less that of gossip every 16 steps, paired by seed, lies above zero.
"""

from collections.abc import Iterator

from experiments.configuration import RunConfig
from experiments.scales import Entry, method, script
from experiments.today import Row, at_rates

TAUS = (4, 16)
EVERY_STEP = ("all-reduce", "D-PSGD", "AL-DSGD on D-PSGD")


def rows(base: RunConfig) -> Iterator[Row]:
    """Every method at every period."""
    local = base.but(method="local_sgd")
    found = [(label, method(base, label), label) for label in EVERY_STEP]
    for tau in TAUS:
        inside = {
            "local SGD": local.but(tau=tau),
            "local D-PSGD": local.but(inner="dpsgd", tau=tau),
            "local AL-DSGD": local.but(inner="aldsgd", core="dpsgd", tau=tau),
            **{label: method(base, label).but(tau=tau) for label in ("SlowMo", "DiLoCo", "NoLoCo")},
        }
        found += [(f"{label}, tau = {tau}", config, f"{label}, tau = {tau}") for label, config in inside.items()]
    late = local.but(inner="dpsgd", tau=1, late=1 / max(TAUS), merge=True)
    found += [
        ("post-local SGD", local.but(tau=max(TAUS), post_epoch=base.epochs // 2), "post-local SGD"),
        ("D-PSGD late, then a merge", late, "late"),
        ("a merge at the end alone", late.but(late=0.0), "late"),
    ]
    common = {
        "local D-PSGD, tau = 16": local.but(inner="dpsgd", tau=16),
        "D-PSGD late, then a merge": late,
        "a merge at the end alone": late.but(late=0.0),
    }
    found += [
        (
            f"{label}, common start",
            config.but(start="same"),
            "late, common start" if config.options.get("merge") else label,
        )
        for label, config in common.items()
    ]
    for label, config, search in found:
        known = "schedules, static" if label in EVERY_STEP[1:] else "local_steps"
        yield Row(label, config, "one graph", f"{known}, {search}")


def configurations(preset: str, seed: int) -> list[Entry]:
    """One entry a row, of which preset smoke has some."""
    return at_rates(rows, preset, seed, lambda row: "tau = 16" not in row.label and "merge" not in row.label)


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
