"""Claim under test: lost messages cost a method that goes on with what it has less than one that sends them again.

What:     D-PSGD combining while adapting, which sends a lost message again and waits, and ADSGD, AD-PSGD and
          asynchronous AL-DSGD with leaders of any age, which do not; SWIFT, and a bound on the age of leaders;
          lognormal times; no message lost, or 10, 30 or 50 %. Each run has the time of as many epochs of unhindered
          workers. cpu: Fashion-MNIST, 3,000 images, an MLP, 4 epochs, five seeds; paper: also AL-DSGD.
Command:  python -m experiments.losses --data DIR
Hardware: one CPU core; 120 runs of about 1 s.
Expect:   written before the runs. Judged by the mean and the worst worker at the end, each method less itself without
          losses, paired by seed: it suffers where the 95 % interval lies below zero. Likely: below two points
          for all, since a link takes a twentieth of a gradient's time, and a copy that is one gradient older is not
          much worse.
"""

from experiments.scales import Entry, script
from experiments.stragglers import BASES, WAITING, timed

METHODS = (WAITING, "ADSGD", "AD-PSGD", "asynchronous AL-DSGD, any age")
FURTHER = {
    "smoke": (), "cpu": ("SWIFT", "asynchronous AL-DSGD"),
    "paper": ("SWIFT", "AL-DSGD on D-PSGD", "asynchronous AL-DSGD"),
}  # fmt: skip
SHARES = {"smoke": (0.0, 0.5), "cpu": (0.0, 0.1, 0.3, 0.5), "paper": (0.0, 0.1, 0.3, 0.5)}


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method at every share, labelled "ADSGD, 30 % lost"."""
    base = BASES[preset].but(seed=seed, times="lognormal")
    return [
        (f"{label}, {share:.0%} lost".replace("%", " %"), timed(base.but(message_loss=share), label), f"{share:.0%}")
        for share in SHARES[preset]
        for label in (*METHODS, *FURTHER[preset])
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
