"""Claim under test: lost messages cost a method that goes on with what it has less than one that sends them again.

What:     D-PSGD combining while adapting and AL-DSGD, which send a lost message again and wait, and ADSGD, SWIFT,
          AD-PSGD and asynchronous AL-DSGD, which do not; lognormal times; 0 to 50 % of the messages lost. Each run has
          the time of 8 epochs of unhindered workers. cpu: Fashion-MNIST, 3,000 images, an MLP, five seeds.
Command:  python -m experiments.losses --data DIR
Hardware: one CPU core; 140 runs of about 2 s.
Expect:   written before the runs. Judged by the mean and the worst worker at the end, each method less itself without
          losses, paired by seed: it suffers where the 95 % interval lies below zero. Likely: below one point at 30 %
          for all, since a link takes a twentieth of a gradient's time; AL-DSGD with a bound least, as its leaders that
          are not renewed no longer lead.
"""

from experiments.scales import Entry, script
from experiments.stragglers import BASES, WAITING, timed

METHODS = (
    WAITING, "AL-DSGD on D-PSGD", "ADSGD", "SWIFT", "AD-PSGD", "asynchronous AL-DSGD", "asynchronous AL-DSGD, any age",
)  # fmt: skip
SHARES = {"smoke": (0.0, 0.3), "cpu": (0.0, 0.1, 0.3, 0.5), "paper": (0.0, 0.1, 0.3, 0.5)}


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method at every share, labelled "ADSGD, 30 % lost"."""
    base = BASES[preset].but(seed=seed, times="lognormal")
    return [
        (f"{label}, {share:.0%} lost".replace("%", " %"), timed(base.but(message_loss=share), label), f"{share:.0%}")
        for share in SHARES[preset]
        for label in METHODS[: 3 if preset == "smoke" else None]
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
