"""Claim: what holds for eight workers holds for sixteen, on MATCHA's four graphs.

What:     D-PSGD, MATCHA and AL-DSGD on each, and AL-DSGD with three rotating graphs (permuted copies),
          16 workers, MATCHA's graphs 1 to 4 (22 to 65 edges), five seeds.
          cpu: Fashion-MNIST cut to 10,000 training and 2,000 test images, an MLP, 8 epochs (320 steps), lr 0.2 (tuned
          for D-PSGD with 8 workers). paper: CIFAR-10, narrow ResNet-50, 200 epochs.
Command:  python -m experiments.sixteen_workers --data DIR
Hardware: one CPU core; 100 runs of about 3 s each, 5 minutes.
Expect:   smaller differences on the denser graphs.
"""

from experiments.scales import SMALL, Entry, method, script

COMPARED = ("D-PSGD", "MATCHA", "AL-DSGD on D-PSGD", "AL-DSGD on MATCHA", "AL-DSGD, three graphs")


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method on every graph, labelled "MATCHA, graph 2"."""
    base = SMALL[preset].but(workers=16, seed=seed)
    return [
        (f"{label}, graph {k}", method(base, label).but(graph=f"matcha:{k}"))
        for k in (1, 2, 3, 4)
        for label in COMPARED
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
