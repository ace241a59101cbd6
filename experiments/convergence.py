"""Claim (C7, C8): AL-DSGD reaches an accuracy in fewer epochs than D-PSGD and MATCHA, on either as its core.

What:     test accuracy and loss against epoch, logical bytes and modelled seconds, for every method: no exchange,
          released-schedule D-PSGD, D-PSGD, MATCHA, all-reduce, AL-DSGD on each core, and with three rotating graphs;
          8 workers on the paper's 53.8 % graph, a different random model per worker, five seeds.
          cpu: CIFAR-10 cut to 6,000 training and 2,000 test images, three convolutions with BatchNorm (24,346
          parameters), 8 epochs (376 steps) instead of 200, lr 0.8 (tuned for D-PSGD), tested every 2 epochs.
          mid: the runs of ``final_accuracy`` in which each method has its own best rate: all of CIFAR-10, an
          eight-layer ResNet, 20 epochs, a test after each on 2,000 of the test images.
          paper: all of CIFAR-10, the narrow ResNet-50, 200 epochs, lr 0.4.
Alone:    one worker with all the images reaches 79.8 % (mid, ResNet, 20 epochs; ``alone``).
Command:  python -m experiments.convergence --data DIR
Hardware: one CPU core; 50 runs of about 13 s each, 11 minutes in all. mid: 45 runs of about 10 minutes.
Expect:   where the paper is right, the AL-DSGD curves lie above those of their cores.
"""

from experiments.rates import at_own_rates
from experiments.scales import CIFAR10, MAIN, MID, MID_SEEDS, Entry, every_method, script

SEEDS = MID_SEEDS


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method on CIFAR-10; in preset mid each at its own rate."""
    if preset == "mid":
        return at_own_rates("resnet_small", MID.but(seed=seed), MAIN)
    return every_method(CIFAR10[preset].but(seed=seed))


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
