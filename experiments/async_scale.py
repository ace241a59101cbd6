"""Claim under test: not waiting gains more the more workers there are, since the slowest of many is slower.

What:     D-PSGD combining while adapting, all-reduce, ADSGD, AD-PSGD, the asynchronous server and asynchronous AL-DSGD
          with leaders of any age; 8, 32 and 128 workers on an exponential graph, exponential times; each run has the
          time of as many gradients of a worker. cpu: Fashion-MNIST, 3,000 images, an MLP, five seeds; paper: also 512.
Command:  python -m experiments.async_scale --data DIR
Hardware: one CPU core; 105 runs of 1 to 35 s.
Expect:   written before the runs. Gradients, of all workers together, beside those of the synchronous form: the mean of
          the largest of n exponential times, 1 + 1/2 + ... + 1/n, for all-reduce (2.7, 4.1, 5.4 times fewer); fewer
          than that for D-PSGD, which waits for neighbours alone. Judged by the mean worker at the end, each method less
          its synchronous form, paired by seed: the gain grows with n where the interval of the difference between the
          gains at 128 and at 8 workers lies above zero.
"""

from experiments.scales import Entry, script
from experiments.stragglers import BASES, FURTHER, METHODS, timed

WORKERS = {"smoke": (4, 9), "cpu": (8, 32, 128), "paper": (8, 32, 128, 512)}


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method with every number of workers, labelled "ADSGD, 32 workers"; epochs so that workers take as many
    steps."""
    found = []
    for n in WORKERS[preset]:
        base = BASES[preset].but(seed=seed, times="exponential", graph="exponential", workers=n)
        epochs = base.epochs * n // WORKERS[preset][0]
        drops = tuple((epoch * n // WORKERS[preset][0], factor) for epoch, factor in base.lr_drops)
        base = base.but(epochs=epochs, lr_drops=drops, eval_every=epochs, interim_images=None)
        found += [
            (f"{label}, {n} workers", timed(base, label), f"{n} workers") for label in METHODS if label not in FURTHER
        ]
    return found


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
