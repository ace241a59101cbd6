"""Claim: the ranking of the methods holds at each method's own best learning rate; coefficients have a stable region.

What:     (a) (c1, c2) swept with p = 0 in the released order, to sums of 2.5. There C = a W + b1 S_N + b2 S_tau with
          b = (1 - p1 - p2) c + p, so this map holds every choice of all four coefficients (a test proves it); README's
          values are the point b = (0.38, 0.26). (b) (p1, p2) swept with c = 0 in the printed order, where the force
          comes first and is something else. (c) learning rates per method, since lr was tuned for D-PSGD alone.
          cpu: Fashion-MNIST cut to 10,000 training and 2,000 test images, an MLP (101,770 parameters), 8 epochs (632
          steps), lr 0.2 (tuned for D-PSGD), five seeds. paper: CIFAR-10, narrow ResNet-50, 200 epochs.
Command:  python -m experiments.sensitivity --data DIR
Hardware: one CPU core; 460 runs of about 3 s each, 25 minutes.
Expect:   an edge of stability at sums between 1 and 2; one ranking or several over lr.
"""

from experiments.scales import SMALL, Entry, method, script

COEFFICIENTS = {preset: (0.0, 0.3, 0.6, 0.9, 1.25) for preset in ("cpu", "paper")} | {"smoke": (0.0, 1.25)}
RATES = {"smoke": (0.5, 2), "cpu": (0.25, 0.5, 1, 2, 4, 8), "paper": (0.25, 0.5, 1, 2, 4, 8)}  # times the preset's lr
COMPARED = (
    "D-PSGD (released schedule)", "D-PSGD", "MATCHA", "all-reduce",
    "AL-DSGD on D-PSGD", "AL-DSGD on MATCHA", "AL-DSGD, three graphs",
)  # fmt: skip


def configurations(preset: str, seed: int) -> list[Entry]:
    """The two maps, labelled "c 0.3 0.6" and "p 0.3 0.6", then "MATCHA, lr 0.4"."""
    base, grid = SMALL[preset].but(seed=seed), COEFFICIENTS[preset]
    weights = method(base, "AL-DSGD on D-PSGD").but(p1=0.0, p2=0.0)
    force = method(base, "AL-DSGD on D-PSGD").but(c1=0.0, c2=0.0, order="printed")
    return [
        *((f"c {a:g} {b:g}", weights.but(c1=a, c2=b)) for a in grid for b in grid),
        *((f"p {a:g} {b:g}", force.but(p1=a, p2=b)) for a in grid for b in grid),
        *(
            (f"{label}, lr {base.lr * factor:g}", method(base, label).but(lr=base.lr * factor))
            for label in COMPARED
            for factor in RATES[preset]
        ),
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
