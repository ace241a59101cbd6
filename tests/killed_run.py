"""A short run through the experiments' own machinery, of which one process can kill itself: for test_checkpoint.py.

ALDSGD_KILL="RANK:STEP" names the process and the global step; only the first launch dies, a restarted one lives.
ALDSGD_RUN names the run.
"""

import os
import signal
from dataclasses import replace

from aldsgd.workers import Workers
from aldsgd.world import launched
from experiments.command import Session, command
from experiments.configuration import RunConfig
from experiments.options import execution, parser
from experiments.runner import run_experiment

RUN = RunConfig(
    model="mlp", graph="paper:100", graphs=2, lr=0.1, epochs=6, momentum=0.9, nesterov=True, precision="float64",
    train_images=1280, test_images=100, options={"core": "matcha", "judge": "average"},
)  # fmt: skip
RUNS = {
    "aldsgd": RUN,
    "lsgd": replace(RUN, method="lsgd_released", options={"groups": 2, "tau": 4, "tau_local": 2, "slow_workers": 3}),
    "choco": replace(RUN, method="choco", graphs=1, options={"core": "dpsgd", "compressor": "qsgd", "gamma": 0.1}),
}


def main(session: Session) -> None:
    place = tuple(map(int, os.environ.get("ALDSGD_KILL", "-1:-1").split(":")))
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    compute = Workers.compute_gradients

    def deadly(self, inputs, targets, step, *which):
        if first and (launched()[0], step) == place:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(self, inputs, targets, step, *which)

    Workers.compute_gradients = deadly
    options = parser("a run that is killed", (0,)).parse_args()
    run_experiment(
        session, "killed", [("run", 0, RUNS[os.environ.get("ALDSGD_RUN", "aldsgd")])], execution(options), "cpu"
    )
    print("done")


if __name__ == "__main__":
    command(main)
