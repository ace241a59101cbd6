"""A short run through the experiments' own machinery, of which one process can kill itself: for test_checkpoint.py.

ALDSGD_KILL="RANK:STEP" names the process and the global step; only the first launch dies, a restarted one lives.
"""

import os
import signal

from aldsgd.workers import Workers
from aldsgd.world import launched
from experiments.common import command, parser, run_experiment
from experiments.configuration import RunConfig

RUN = RunConfig(model="mlp", method="aldsgd", core="matcha", graph="paper:100", graphs=2, lr=0.1, epochs=6,
                precision="float64", train_images=1280, test_images=100)  # fmt: skip


def main() -> None:
    place = tuple(map(int, os.environ.get("ALDSGD_KILL", "-1:-1").split(":")))
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    compute = Workers.compute_gradients

    def deadly(self, inputs, targets, step):
        if first and (launched()[0], step) == place:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(self, inputs, targets, step)

    Workers.compute_gradients = deadly
    options = parser("a run that is killed", seeds=(0,)).parse_args()
    run_experiment("killed", lambda preset, seed: [("run", RUN)], options)
    print("done")


if __name__ == "__main__":
    command(main)
