"""A short run through the experiments' own machinery, of which one process can kill itself: for test_resumed.py.

ALDSGD_KILL="RANK:STEP" names the process and the global step, of an asynchronous run the first worker's own that gets
there; only the first launch dies, a restarted one lives. ALDSGD_RUN names the run. ALDSGD_EVENTS names a file to which
an asynchronous run adds a line for each thing that happens.
"""

import os
import signal
from dataclasses import replace

from aldsgd.events import Events
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
SMALL = replace(RUN, model="logistic")
RUNS = {
    "aldsgd": RUN,
    "lsgd": replace(
        SMALL, method="lsgd_released", options={"groups": 2, "tau": 4, "tau_local": 2, "slow_workers": 3}
    ),
    "choco": replace(
        SMALL, method="choco", graphs=1, options={"core": "dpsgd", "compressor": "qsgd", "gamma": 0.1}
    ),
    # At the end of its fourth epoch one worker stands still, one has left, one has returned, and one is away.
    "async_aldsgd": RUN.but(
        method="async_aldsgd", core="matcha", graphs=1, times="exponential", message_loss=0.2, latency=5e-3,
        stragglers=1, faults=("pause:1:0.4:4.2", "leave:2:3.1", "return:3:1.5:2.5", "return:?:3.7:4.3"),
    ),
}  # fmt: skip


def logged(path: str, change=setattr) -> None:
    """From now on every event of an asynchronous run adds a line to a file: the time, what happens, and to whom."""
    file = open(path, "a", buffering=1)
    for name in ("_finish", "_arrive", "_back", "_help"):
        happens = getattr(Events, name)

        def told(self, i, *body, name=name, happens=happens):
            file.write(f"{self.now!r} {name} {i} {body}\n")
            return happens(self, i, *body)

        change(Events, name, told)


def main(session: Session) -> None:
    place = tuple(map(int, os.environ.get("ALDSGD_KILL", "-1:-1").split(":")))
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if "ALDSGD_EVENTS" in os.environ:
        logged(os.environ["ALDSGD_EVENTS"])
    for name in ("compute_gradients", "compute_together"):
        compute = getattr(Workers, name)

        def deadly(self, inputs, targets, steps, *which, compute=compute):
            if first and place[0] == launched()[0] and place[1] in ([steps] if isinstance(steps, int) else steps):
                os.kill(os.getpid(), signal.SIGKILL)
            return compute(self, inputs, targets, steps, *which)

        setattr(Workers, name, deadly)
    options = parser("a run that is killed", (0,)).parse_args()
    run_experiment(
        session, "killed", [("run", 0, RUNS[os.environ.get("ALDSGD_RUN", "aldsgd")])], execution(options), "cpu"
    )
    print("done")


if __name__ == "__main__":
    command(main)
