"""Claim under test: which method of this repository to use, and whether AL-DSGD is ever it, at equal epochs or bytes or
on three links.

What:     every method, LSGD's and EASGD's families included, on 8 workers, the paper's 53.8 % graph, IID shards, five
          seeds; D-PSGD, AL-DSGD and all-reduce with Nesterov momentum 0.9 too. What exchanges every tau steps does so
          every 16. Methods differ in bytes by a factor of hundreds, so that no run is stretched here: accuracy at equal
          bytes and at equal modelled time lies on the line between two tests; a method that has ended before stands
          there with its end. Budgets: half of what D-PSGD sends in all, and half of the time that it takes on the link.
          cpu: Fashion-MNIST, 4,096 training images of its own for each seed, 2,000 test images, a narrow MLP, 8 epochs,
          tested after each. paper: CIFAR-10, narrow ResNet-50, 200 epochs.
Links:    1, 0.1 and 0.01 Gb/s, 50 us a message, 10 ms of computation a step. Runs are recorded on ``COUNTED``, a link
          of which any other's time follows exactly; their own modelled seconds mean nothing.
Rates:    a search for each row, in part that of ``experiments.schedules`` or ``experiments.local_steps``; close methods
          share one (``CLOSE``).
Command:  python -m experiments.field --data DIR
Hardware: one CPU core; 200 runs of about 4 s.
Expect:   written before the runs. On fast links what averages most (all-reduce), with momentum; on slow ones what
          exchanges rarely. The best is named with how many others cannot be told from it: their difference to it,
          paired by seed, has an interval that holds zero.
"""

from collections.abc import Iterator
from dataclasses import asdict

from aldsgd.links import COUNTED
from experiments.configuration import RunConfig
from experiments.scales import Entry, method, script
from experiments.today import NESTEROV, Row, at_rates

#: Of each family, in the order of the registry.
COMPARED = (
    "no exchange", "D-PSGD (released schedule)", "D-PSGD", "D-PSGD, three graphs", "D-PSGD, combine while adapting",
    "MATCHA", "all-reduce", "AL-DSGD on D-PSGD", "AL-DSGD on MATCHA", "AL-DSGD, three graphs", "AL-DSGD on DSGD-AC",
    "fading leaders", "DPPF", "EAMSGD", "EASGD", "LGD", "LGRAWA", "LSGD", "LSGD+", "LSGD (released code)", "MGRAWA",
    "WASGD", "WASGD+", "QG-DSGDm", "DecentLaM", "gradient tracking", "exact diffusion",
    "exact diffusion with momentum", "D2", "momentum tracking", "DSGD-AC", "SGP", "local SGD", "SlowMo", "DiLoCo",
    "NoLoCo", "CHOCO-SGD",
)  # fmt: skip
WITH_MOMENTUM = ("D-PSGD", "AL-DSGD on D-PSGD", "all-reduce")
#: In preset smoke.
SHOWN = ("D-PSGD", "all-reduce", "AL-DSGD on D-PSGD", "LSGD", "EASGD", "CHOCO-SGD", "D-PSGD, momentum")
TAU = 16
RARE = ("local SGD", "SlowMo", "DiLoCo", "NoLoCo")
#: Methods that large negative eigenvalues of W, as equal weights have them here, make unstable.
METROPOLIS = ("gradient tracking", "momentum tracking", "DSGD-AC", "AL-DSGD on DSGD-AC")
#: Rows whose search another experiment has.
SHARED = ("D-PSGD", "DSGD-AC", "AL-DSGD on D-PSGD", "AL-DSGD on DSGD-AC")
#: Method -> a close one whose search serves it as well.
CLOSE = {
    "D-PSGD, three graphs": "D-PSGD", "SGP": "D-PSGD", "AL-DSGD, three graphs": "AL-DSGD on D-PSGD",
    "LSGD (released code)": "LSGD", "LGRAWA": "MGRAWA", "WASGD+": "WASGD",
}  # fmt: skip


def rows(base: RunConfig) -> Iterator[Row]:
    """One row a method, and those with momentum."""
    base = base.but(eval_every=1, **asdict(COUNTED))
    for label in COMPARED:
        config = method(base, label)
        if label in RARE:
            config, search = config.but(tau=TAU), f"local_steps, {label}, tau = {TAU}"
        else:
            known = CLOSE.get(label, label)
            search = f"schedules, static, {known}" if known in SHARED else f"field, {known}"
        if label in METROPOLIS:
            config = config.but(weights="metropolis")
        if label == "CHOCO-SGD":
            config = config.but(compressor="topk", share=0.1)
        yield Row(label, config, "plain", search)
    for label in WITH_MOMENTUM:
        shared = f"schedules, static, momentum, {label}" if label in SHARED else f"field, {label}, momentum"
        yield Row(f"{label}, momentum", method(base.but(**NESTEROV), label), "momentum", shared)


def configurations(preset: str, seed: int) -> list[Entry]:
    """One entry a row, of which preset smoke has some."""
    return at_rates(rows, preset, seed, lambda row: row.label in SHOWN)


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
