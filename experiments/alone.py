"""Claim under test: the networks of preset mid learn; what one worker reaches that has all the images to itself.

What:     plain SGD of one worker on all images of CIFAR-10, with batches as large as those of one of the eight workers
          elsewhere, so eight times their steps; each network at its own best rate, five seeds.
          mid: an eight-layer ResNet, 20 epochs (79.8 %); three convolutions, 12 epochs (63.3 %).
Command:  python -m experiments.alone --preset mid --data DIR
Hardware: one CPU core; 10 runs of about 8 and 2 minutes.
Expect:   more than any gossip of eight workers at the same epochs.
"""

from experiments.rates import own_rate
from experiments.scales import ALONE, SMOKE, Entry, method, script

SEEDS = {"smoke": (0, 1), "mid": (0, 1, 2, 3, 4)}


def configurations(preset: str, seed: int) -> list[Entry]:
    """One worker on each network, labelled "cnn, alone"."""
    if preset == "mid":
        return [
            (setting, method(base.but(lr=own_rate(setting, "no exchange"), seed=seed), "no exchange"), setting)
            for setting, base in ALONE.items()
        ]
    return [("digits, alone", method(SMOKE.but(workers=1, graph="complete", seed=seed), "no exchange"))]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
