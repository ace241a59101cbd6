"""Claim under test: what a leader brings is what it knows, and it costs because the luckiest batch is followed.

What:     AL-DSGD on D-PSGD whose best worker is told by the mini-batch whose gradient is taken (the paper), by a second
          one, by a running average, or by chance, and D-PSGD; identical workers, and 60 % wrong labels at 2, 4, 6 of
          the eight. All at D-PSGD's best rate under the condition; 53.8 % graph, ten seeds.
          mid: Fashion-MNIST, 10,000 training images of its own for each seed, an MLP, 8 epochs.
Command:  python -m experiments.judges --preset mid --data DIR
Hardware: one CPU core; 200 runs of about 4 s each, 14 minutes.
Expect:   written before the runs. Identical workers: if leaders lose by the winner's curse, the second draw is better
          than the mini-batch, and D-PSGD is not better than the second draw; if they lose by averaging over fewer
          workers, D-PSGD is better than the second draw too, and than chance. Wrong labels: if leaders gain by what
          they know, the mini-batch is better than chance; if by their matrix alone, it is not.
"""

from experiments.heterogeneous import conditions
from experiments.rates import own_rate
from experiments.scales import MID_FASHION, SMOKE, Entry, method, script

SEEDS = {"smoke": (0, 1), "mid": tuple(range(10))}
COMPARED = (
    "D-PSGD", "AL-DSGD on D-PSGD", "AL-DSGD, second draw", "AL-DSGD, running average", "AL-DSGD, random leader",
)  # fmt: skip
CONDITIONS = ("identical", "noise at 2", "noise at 4", "noise at 6")


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every judge under every condition, labelled "AL-DSGD, second draw, noise at 4"."""
    bases = {name: SMOKE.but(seed=seed) for name in CONDITIONS}
    if preset == "mid":
        bases = {
            name: MID_FASHION.but(lr=own_rate(f"fashionmnist, {name}", "D-PSGD"), seed=seed) for name in CONDITIONS
        }
    return [
        (f"{label}, {name}", method(conditions(base)[name], label), name)
        for name, base in bases.items()
        for label in COMPARED
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
