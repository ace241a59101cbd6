"""Claim under test: compressed gossip reaches at a fraction of the bits what plain gossip and AL-DSGD reach.

What:     CHOCO-SGD with top-k and random-k (1 % and 10 % of the entries), sign, and QSGD (4 and 8 bits beside the
          sign), against D-PSGD and AL-DSGD uncompressed and no exchange; 8 workers on the paper's 53.8 % graph, a
          common start, since CHOCO-SGD would first have to send it; five seeds. Bits are those of the packed rows.
          cpu: Fashion-MNIST, 4,096 training images of its own for each seed, 2,000 test images, a narrow MLP, 8 epochs.
          paper: CIFAR-10, narrow ResNet-50, 200 epochs.
Rates:    a search for each row; for CHOCO-SGD over gamma as well, each at the rate in the middle of the grid.
Command:  python -m experiments.compression --data DIR
Hardware: one CPU core; 50 runs of about 3 s.
Expect:   written before the runs. A compressor costs nothing that can be seen where the interval of its mean worker
          less D-PSGD's, paired by seed, holds zero.
"""

from collections.abc import Iterator

from experiments.configuration import RunConfig
from experiments.scales import Entry, method, script
from experiments.today import Row, at_rates

COMPRESSED = {
    "top-k 1 %": {"compressor": "topk", "share": 0.01},
    "top-k 10 %": {"compressor": "topk", "share": 0.1},
    "random-k 1 %": {"compressor": "randomk", "share": 0.01},
    "random-k 10 %": {"compressor": "randomk", "share": 0.1},
    "sign": {"compressor": "sign"},
    "QSGD 4 bits": {"compressor": "qsgd", "bits": 4},
    "QSGD 8 bits": {"compressor": "qsgd", "bits": 8},
}
PLAIN = ("no exchange", "D-PSGD", "AL-DSGD on D-PSGD")


def rows(base: RunConfig) -> Iterator[Row]:
    """Methods that send models as they are, then CHOCO-SGD with each compressor."""
    base = base.but(start="same")
    for label in PLAIN:
        yield Row(label, method(base, label), "one graph", f"compression, {label}")
    for name, changes in COMPRESSED.items():
        yield Row(
            f"CHOCO-SGD, {name}",
            method(base, "CHOCO-SGD").but(**changes),
            "one graph",
            f"compression, CHOCO-SGD, {name}",
        )


def configurations(preset: str, seed: int) -> list[Entry]:
    """One entry a row, of which preset smoke has some."""
    return at_rates(rows, preset, seed, lambda row: row.config.options.get("compressor") in (None, "sign"))


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
