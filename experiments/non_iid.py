"""Claim under test: leaders help where the workers' data differ. The paper studies IID shards only.

What:     Dirichlet label skew alpha = 10 (mild), 1, 0.1 (a few classes per worker), at least 32 images a worker, every
          method; 8 workers on the paper's 53.8 % graph, five seeds. Tested on all classes.
          cpu: Fashion-MNIST cut to 10,000 training and 2,000 test images, an MLP, 8 epochs, lr 0.2 (tuned for D-PSGD on
          IID shards). paper: CIFAR-10, narrow ResNet-50, 200 epochs.
Command:  python -m experiments.non_iid --data DIR
Hardware: one CPU core; 150 runs of about 3 s each, 8 minutes.
Expect:   open. The worker with the smallest loss may just have the easiest classes.
"""

from experiments.scales import SMALL, Entry, every_method, script

ALPHAS = (10.0, 1.0, 0.1)
#: A floor under the shards; digits are too few for the same one.
SMALLEST = {"smoke": 2, "cpu": 32, "paper": 32}


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method at every alpha, labelled "MATCHA, alpha 0.1"."""
    return [
        (f"{label}, alpha {alpha:g}", config)
        for alpha in ALPHAS
        for label, config in every_method(
            SMALL[preset].but(split="dirichlet", dirichlet_alpha=alpha, min_shard=SMALLEST[preset], seed=seed)
        )
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
