"""Claim under test: where labels are skewed, leaders add something to gossip that corrects its drift, or replace it.

What:     D-PSGD, AL-DSGD, QG-DSGDm, DecentLaM, gradient tracking, D2, exact diffusion without and with momentum,
          momentum tracking, and all-reduce as the ceiling; D-PSGD, AL-DSGD and all-reduce with Nesterov momentum 0.9
          too. Labels dealt by Dirichlet 1 and 0.1, 8 workers on the paper's 53.8 % graph and a ring of 16, five seeds.
          Metropolis weights for all: on the paper's equal ones D2 diverges, on the ring also with these, so that it is
          missing there. No BatchNorm. Gradient and momentum tracking send two rows: they are there at the same epochs,
          and at half of them, for the same bytes ("half the epochs").
          cpu: Fashion-MNIST, 4,096 training images of its own for each seed, 2,000 test images, a narrow MLP, 8 epochs.
          paper: CIFAR-10, a small ResNet with GroupNorm, 200 epochs.
Rates:    a search for each method on each graph at Dirichlet 0.1, which serves Dirichlet 1 and half the epochs as well.
Command:  python -m experiments.skew --data DIR
Hardware: one CPU core; 290 runs of about 2 s.
Expect:   written before the runs. AL-DSGD adds something where its mean worker, less that of the best drift corrector
          at equal bytes, paired by seed, has an interval above zero; it loses where that lies below. Without momentum
          it meets those without (GT, D2, exact diffusion), with momentum the others.
"""

from collections.abc import Iterator

from experiments.configuration import RunConfig
from experiments.scales import GRAPH, Entry, method, script
from experiments.today import NESTEROV, Row, at_rates, longer

ALPHAS = (1.0, 0.1)
PLACES = {"53.8 %": {"workers": 8, "graph": GRAPH}, "ring of 16": {"workers": 16, "graph": "ring"}}
PLAIN = ("D-PSGD", "AL-DSGD on D-PSGD", "all-reduce")
CORRECTORS = (
    "QG-DSGDm", "DecentLaM", "gradient tracking", "D2", "exact diffusion", "exact diffusion with momentum",
    "momentum tracking",
)  # fmt: skip
TWO_ROWS = ("gradient tracking", "momentum tracking")
#: Correctors with a momentum of their own.
MOVING = ("QG-DSGDm", "DecentLaM", "exact diffusion with momentum", "momentum tracking")
#: A floor under the shards.
SMALLEST = 4


def on(base: RunConfig, label: str) -> RunConfig:
    """A method with Metropolis weights, where it has any."""
    made = method(base, label)
    return made if label == "all-reduce" else made.but(weights="metropolis")


def rows(base: RunConfig) -> Iterator[Row]:
    """Every method on both graphs at both concentrations; those with momentum are a condition of their own."""
    for place, changes in PLACES.items():
        for alpha in ALPHAS:
            dealt = base.but(split="dirichlet", dirichlet_alpha=alpha, min_shard=SMALLEST, **changes)
            here, found = f"Dirichlet {alpha:g}, {place}", []
            for label in (*PLAIN, *CORRECTORS):
                if not (label == "D2" and changes["graph"] == "ring"):
                    found.append((label, on(dealt, label), label))
            found += [(f"{label}, momentum", on(dealt.but(**NESTEROV), label), f"{label}, momentum") for label in PLAIN]
            found += [
                (f"{label}, half the epochs", longer(on(dealt, label), base.epochs // 2), label) for label in TWO_ROWS
            ]
            for label, config, search in found:
                moving = config.momentum or search in MOVING
                yield Row(
                    f"{label}, {here}", config, f"{here}{', momentum' * bool(moving)}", f"skew, {place}, {search}"
                )


def configurations(preset: str, seed: int) -> list[Entry]:
    """One entry a row; preset smoke has some of the methods under one condition."""

    def groups(base: RunConfig) -> Iterator[Row]:
        yield from rows(base.but(model="resnet_small_gn") if preset == "paper" else base)

    shown = ("dpsgd", "aldsgd", "gt", "qg")
    return at_rates(
        groups, preset, seed, lambda row: row.condition.startswith("Dirichlet 1, 53") and row.config.method in shown
    )


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
