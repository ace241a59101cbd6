"""Claim: the shared skeleton costs next to nothing beside plain PyTorch.

What:     (1) mixing 8 models of 11.2 M parameters against copying the same matrix; (2) mixing as a share of a training
          step; (3) a training step of 8 workers against eight plain torch.optim steps on the same batches, with SGD and
          with Nesterov momentum; (4) cost per worker of a large ring; (5) peak memory beside the count. ``--network``:
          between processes (network.py). ``--gpu``: a GPU (gpu.py).
Command:  python -m experiments.bench
Hardware: two CPU cores, otherwise idle. Time: about 10 minutes (``--quick`` leaves out WRN-28-10: 2 minutes).
Expect:   ratios of at most 2.5, 0.02, 1.10 and 2. Medians of at least 5 repeats, the order alternated.
"""

import argparse

from aldsgd.errors import ConfigError
from experiments.command import command
from experiments.options import Parser, positive


def main(_session) -> None:
    p = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--repeats", type=positive, default=7, help="rounds; the median is reported (default: 7)")
    p.add_argument("--quick", action="store_true", help="leave out WRN-28-10")
    other = p.add_mutually_exclusive_group()
    other.add_argument("--network", action="store_true", help="the exchange between processes instead")
    other.add_argument("--gpu", action="store_true", help="every engine and precision on a GPU instead")
    p.add_argument("--results", metavar="DIR", help="where the CSV goes (default: results; of a part: my_results)")
    options = p.parse_args()
    if options.repeats < 5 and not options.gpu:
        raise ConfigError(f"--repeats {options.repeats} is too few for a median; give 5 or more")
    if options.gpu:
        from experiments.bench import gpu as part
    elif options.network:
        from experiments.bench import network as part
    else:
        from experiments.bench import cpu as part
    part.run(options)


if __name__ == "__main__":
    command(main)
