"""Claim: which of the method's parts (weights, force, best worker, degree, dynamic graphs) carries the gain?

What:     D-PSGD, and AL-DSGD with single parts switched on; the released order of the update and the printed one (force
          first, two exchanges; force scaled by one and by lr); leaders at every 1st, 5th, 40th batch of an epoch.
          8 workers on the paper's 53.8 % graph, five seeds. The paper shows no such table; the released code has a few
          of these variants.
          cpu: Fashion-MNIST cut to 10,000 training and 2,000 test images, an MLP, 8 epochs, lr 0.2 (tuned for D-PSGD).
          paper: CIFAR-10, narrow ResNet-50, 200 epochs.
Command:  python -m experiments.ablation --data DIR
Hardware: one CPU core; 60 runs of about 3 s each, 3 minutes.
Expect:   open. In the released order weights and force have the same form, C = a W + b1 S_N + b2 S_tau.
"""

from experiments.scales import SMALL, Entry, method, script

#: label -> what differs from AL-DSGD on D-PSGD with one graph
PARTS = {
    "weights only": {"p1": 0.0, "p2": 0.0},
    "force only": {"c1": 0.0, "c2": 0.0},
    "best worker only": {"c2": 0.0, "p2": 0.0},
    "degree only": {"c1": 0.0, "p1": 0.0},
    "weights and force": {},
    "all (three graphs)": {"graphs": 3},
    "printed order, force x 1": {"order": "printed", "force_scale": "one"},
    "printed order, force x lr": {"order": "printed", "force_scale": "lr"},
    "leaders at every 5th batch": {"period": 5},
    "leaders at every 40th batch": {"period": 40},
}


def configurations(preset: str, seed: int) -> list[Entry]:
    """D-PSGD with and without rotation, then AL-DSGD part by part."""
    base = SMALL[preset].but(seed=seed)
    plain, leaders = method(base, "D-PSGD"), method(base, "AL-DSGD on D-PSGD")
    return [
        ("D-PSGD", plain),
        ("dynamic graphs only", plain.but(graphs=3)),
        *((label, leaders.but(**changes)) for label, changes in PARTS.items()),
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
