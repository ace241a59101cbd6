"""Claim (C6): AL-DSGD reduces communication overhead. The paper never measured it.

What:     logical bytes, rounds and modelled time until the mean worker reaches a target, and of the whole run, at 1, 10
          and 100 Gb/s and latencies of 5, 50 and 500 us (repriced from the recorded messages; nothing is trained again
          for a link). One exchange (released order) against two (printed order), against ring all-reduce, which sends
          14 models a step over all 8 workers where gossip on a ring of degree 2 sends 16: slightly more.
          The target: 95 % of the mean accuracy of D-PSGD on the same graph at the last test on the samples that are
          tested during training, mean over the seeds.
          cpu: as ``convergence`` (CIFAR-10 cut to 6,000 images, 8 epochs). mid: the runs of ``convergence``, and MATCHA
          at twice the epochs, for accuracy at equal bytes. paper: 200 epochs of all of it.
Alone:    one worker with all the images reaches 79.8 % (mid, ResNet, 20 epochs; ``alone``).
Command:  python -m experiments.communication --data DIR
Hardware: one CPU core; 55 runs of about 13 s each, 12 minutes (40 of them are shared with other experiments). mid:
          45 runs of about 10 minutes, of which 40 are those of ``convergence``; the others have twice the epochs.
Expect:   MATCHA sends half of D-PSGD's bytes; AL-DSGD adds 4 bytes a message; the printed order doubles the bytes.
"""

from experiments.ablation import PARTS
from experiments.rates import at_own_rates
from experiments.scales import CIFAR10, EVERY, MAIN, MID, MID_SEEDS, TWICE, Entry, method, script, twice

SEEDS = MID_SEEDS

COMPARED = [label for label in EVERY if label not in ("no exchange", "AL-DSGD on released schedule")]


def configurations(preset: str, seed: int) -> list[Entry]:
    """The methods on the base graph, the printed order, and two methods on the ring; in preset mid each method at its
    own rate, and MATCHA, which sends half, at twice the epochs too."""
    if preset == "mid":
        gossip = [label for label in MAIN if label != "no exchange"]
        (entry,) = at_own_rates("resnet_small", MID.but(seed=seed), ["MATCHA"])
        return [
            *at_own_rates("resnet_small", MID.but(seed=seed), gossip),
            (f"MATCHA, {TWICE}", twice(entry[1]), TWICE),
        ]
    base = CIFAR10[preset].but(seed=seed)
    printed = method(base, "AL-DSGD on D-PSGD").but(**PARTS["printed order, force x 1"])
    return [
        *((label, method(base, label)) for label in COMPARED),
        ("AL-DSGD, printed order", printed),
        *((f"{label}, ring", method(base, label).but(graph="ring")) for label in ("D-PSGD", "AL-DSGD on D-PSGD")),
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
