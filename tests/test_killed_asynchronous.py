"""kill -9 amid an asynchronous run: the same events in the same order, and the same rows, once it was started again."""

import os
import signal
import subprocess
import sys

from aldsgd.checkpoint import Snapshot
from aldsgd.records import RunStore
from experiments.options import Execution
from experiments.runner import train_run
from tests.killed_run import RUNS, logged
from tests.test_resumed import ROOT, rows_of

#: Gradients that a worker which nothing slows takes in an epoch, and epochs between checkpoints.
STEPS, EVERY = 10, 2
RUN = "async_aldsgd"


def started(results, events, kill="-1:-1"):
    """tests/killed_run.py in a process of its own, a checkpoint every two epochs; the events go to a file."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "ALDSGD_RUN": RUN, "ALDSGD_KILL": kill,
        "ALDSGD_EVENTS": str(events),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "tests.killed_run", "--results", str(results), "--checkpoint-every", str(EVERY)],
        cwd=ROOT, env=environment, timeout=300, capture_output=True, text=True,
    )  # fmt: skip


def test_kill_9_amid_an_epoch_of_an_asynchronous_run_changes_no_row_and_no_event(tmp_path, monkeypatch):
    """Messages are lost, one worker is slow, one pauses, one has left, and one is away while the process is killed."""
    whole, hit, again = (tmp_path / name for name in ("whole.txt", "hit.txt", "again.txt"))
    with monkeypatch.context() as patch:
        logged(whole, patch.setattr)
        train_run(RunStore(tmp_path / "unhit"), RUNS[RUN], Execution(results=str(tmp_path / "unhit"), quiet=True))
    assert started(tmp_path / "run", hit, kill="0:60").returncode == -signal.SIGKILL
    (checkpoints,) = (tmp_path / "run" / "checkpoints").iterdir()
    kept = Snapshot(checkpoints / "epoch-000004").state["virtual"]
    assert False in kept["here"] and kept["heap"] and kept["lost"] > 0
    resumed = started(tmp_path / "run", again)
    assert resumed.returncode == 0, resumed.stderr

    expected, before, after = (path.read_text().splitlines() for path in (whole, hit, again))
    saved = sum(float(line.split()[0]) <= 4 * STEPS for line in expected)
    # It dies in the midst of an epoch, beyond its newest checkpoint, and not at the end of one.
    last = float(before[-1].split()[0])
    assert saved < len(before) and 4 * STEPS < last and last % STEPS > 1
    assert before == expected[: len(before)]
    assert after == expected[saved:]
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "unhit")
    assert not (tmp_path / "run" / "checkpoints").exists()
