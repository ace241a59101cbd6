"""Claim under test: old copies of models cost accuracy, and old leaders more than old neighbours.

What:     ADSGD, SWIFT and asynchronous AL-DSGD with leaders of any age, with a bound on it (three gradients) and with a
          weight that fades, where a message is 0, 1, 4, 8 or 16 gradients on its way; lognormal times. Each run has the
          time of as many epochs of unhindered workers. cpu: Fashion-MNIST, 3,000 images, an MLP, 4 epochs, five seeds.
Command:  python -m experiments.staleness --data DIR
Hardware: one CPU core; 125 runs of about 1 s.
Expect:   written before the runs. Judged by the mean and the worst worker at the end, paired by seed. Staleness costs
          where a method less itself without delay lies below zero; old leaders hurt where asynchronous AL-DSGD, any
          age, less ADSGD at the same delay lies below zero; a rule of age helps where its method less the one of any
          age lies above zero. Likely: nothing up to 4 gradients; at 16 leaders of any age hurt, the bound does not.
"""

from experiments.scales import Entry, script
from experiments.stragglers import BASES, timed

ANY_AGE = "asynchronous AL-DSGD, any age"
METHODS = ("ADSGD", ANY_AGE, "asynchronous AL-DSGD", "asynchronous AL-DSGD, fading")
DELAYS = {"smoke": (0, 4), "cpu": (0, 1, 4, 8, 16), "paper": (0, 1, 4, 8, 16)}


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method at every delay, labelled "ADSGD, delay 4"."""
    base = BASES[preset].but(seed=seed, times="lognormal")
    return [
        (f"{label}, delay {delay}", timed(base.but(latency=delay * base.compute_seconds), label), f"delay {delay}")
        for delay in DELAYS[preset]
        for label in (*METHODS, *(() if preset == "smoke" else ("SWIFT",)))
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
