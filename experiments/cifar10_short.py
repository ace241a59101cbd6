"""Claim: D-PSGD and AL-DSGD train the paper's network on the paper's data, on a CPU, from a different model per worker.

What:     CIFAR-10 (all of it, crop and flip), the narrow ResNet-50, 8 workers, batch 16, lr 0.4, 100 % graph A; only
          the first 3 of the paper's 200 epochs. All 10,000 test images for every worker after the last epoch.
Command:  python -m experiments.cifar10_short --data DIR
Hardware: one CPU core; 2 runs of about 30 minutes. paper preset: all 200 epochs, tested after each.
Expect:   both methods learn: mean accuracy above 30 %, every worker above chance (10 %). Three epochs of one seed rank
          nothing.
"""

from experiments.configuration import RunConfig
from experiments.scales import PLAIN, Entry, method, script

SEEDS = dict.fromkeys(("smoke", "cpu", "paper"), (0,))
EPOCHS = {"smoke": 1, "cpu": 3, "paper": 200}
EVAL_EVERY = {"smoke": 1, "cpu": 3, "paper": 1}
PAPER = RunConfig(
    dataset="cifar10",
    model="resnet50_narrow",
    augment=True,
    graph="paper:100",
    batch=16,
    lr=0.4,
    lr_drops=((100, 0.1), (150, 0.1)),
    **PLAIN,
)


def configurations(preset: str, seed: int) -> list[Entry]:
    """D-PSGD and AL-DSGD; ``smoke`` trains a small network on a few hundred images instead."""
    base = PAPER.but(epochs=EPOCHS[preset], eval_every=EVAL_EVERY[preset], seed=seed)
    if preset == "smoke":
        base = base.but(model="resnet_small", train_images=512, test_images=200, bn_images=128)
    return [(label, method(base, label)) for label in ("D-PSGD", "AL-DSGD on D-PSGD")]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
