"""What one sees of a run: a line for each tested epoch, bars that fit, TensorBoard, a callback, divergence."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from aldsgd import ALDSGD, ConfigError, Settings, Trainer, load, models, train
from aldsgd.graphs import ring
from aldsgd.watching import WIDTH, Lines, TensorBoard, duration, short, size
from baselines.dpsgd import DPSGD
from experiments import run
from tests.calling import SHORT, call
from tests.crashing import crash

ROOT = Path(__file__).resolve().parents[1]
DATA = load("digits").subset(200, 100)
SHOWN = [option for option in SHORT if option != "--quiet"]


def mlp():
    return models.build("mlp", 10, (1, 8, 8))


def test_a_callback_sees_each_tested_epoch_as_it_ends():
    seen = []
    result = train(DPSGD(ring(4)), mlp, DATA, epochs=4, eval_every=2, on_record=lambda rows: seen.append(list(rows)))
    assert [rows[-1]["epoch"] for rows in seen] == [2, 4]
    assert [row for rows in seen for row in rows] == result.rows


def test_without_a_terminal_each_tested_epoch_is_a_line(tmp_path):
    ended = call(run, *SHOWN, "--epochs", "3", "--workers", "4", "--graph", "ring", "--results", tmp_path)
    lines = [line for line in ended.out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3 and lines[-1].startswith("epoch 3/3  loss ") and " left" in lines[0]
    for word in ("worst", "mean", "averaged", "consensus", "sent"):
        assert all(word in line for line in lines)
    quiet = call(run, *SHOWN, "--quiet", "--seeds", "1", "--graph", "ring", "--results", tmp_path)
    assert "epoch 1" not in quiet.out


@pytest.mark.parametrize(
    ("begun", "told", "shown"),
    [
        (0, [((20,), 2.0), ((40,), 4.0)], ["18 s", "16 s"]),
        (140, [((140,), 1.0), ((160,), 3.0)], ["", "6 s"]),  # a checkpoint with one test, or with more
        (150, [((120, 140), 0.0), ((160,), 2.0), ((200,), 10.0)], ["", "8 s", ""]),
    ],
)
def test_the_time_left_goes_by_the_epochs_since_the_beginning_and_no_others(begun, told, shown, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("aldsgd.watching.time.perf_counter", lambda: clock[0])
    row = {"train_loss": 1.0, "worst_r2": 0.1, "mean_r2": 0.2, "averaged_r2": 0.3, "consensus_distance": 0.0,
           "logical_bytes": 5}  # fmt: skip
    lines = Lines(200, lambda: begun)
    for epochs, clock[0] in told:
        lines([{**row, "epoch": epoch} for epoch in epochs])
    found = [line.partition("sent 5 B")[2].strip() for line in capsys.readouterr().out.splitlines()]
    assert found == [f"{left} left" if left else "" for left in shown]


def test_a_run_says_how_many_epochs_its_checkpoint_had(tmp_path, capsys):
    def trainer():
        return Trainer(DPSGD(ring(4)), mlp, DATA, Settings(epochs=6, eval_every=2))

    crash(trainer(), tmp_path / "run", 3)
    again = trainer()
    again.run(Lines(6, lambda: again.begun), checkpoints=tmp_path / "run")
    assert again.begun == 3 and [" left" in line for line in capsys.readouterr().out.splitlines()] == [0, 1, 0]


@pytest.mark.parametrize(("value", "text"), [(0.1234, "0.123"), (37912749435943.0, "3.8e+13"), (float("nan"), "nan")])
def test_numbers_are_short(value, text):
    assert short(value) == text


def test_units():
    assert [size(x) for x in (12, 1500, 2.5e7, 3e12, 4e15)] == ["12 B", "1.5 kB", "25 MB", "3 TB", "4e+03 TB"]
    assert [duration(x) for x in (40, 700, 11100)] == ["40 s", "12 min", "3 h 05 min"]


def test_on_a_terminal_two_bars_fit_eighty_columns(tmp_path):
    """In a real pseudo-terminal of 80 columns: whatever is drawn, no line is longer."""
    command = [sys.executable, "-m", "experiments.run", *SHOWN, "--epochs", "2", "--seeds", "0", "1", "--graph", "ring",
               "--threads", "1", "--results", str(tmp_path)]  # fmt: skip
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    drawn = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        drawn += part
    os.close(ours)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", drawn.decode())
    lines = [line for line in re.split(r"[\r\n]+", text) if line]
    assert any("run" in line for line in lines) and any("step" in line and "loss" in line for line in lines)
    assert max(map(len, lines)) <= WIDTH


def test_tensorboard_is_optional_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="TensorBoard is not installed; python -m pip install tensorboard"):
        TensorBoard(tmp_path)
    monkeypatch.setattr("experiments.options.find_spec", lambda name: None)
    ended = call(run, *SHORT, "--tensorboard", tmp_path, "--results", tmp_path)
    assert ended.refused and "--tensorboard needs TensorBoard" in ended.err and not list(tmp_path.iterdir())


def test_tensorboard_holds_the_rows_of_the_network(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    result = train(DPSGD(ring(4)), mlp, DATA, epochs=2, on_record=board)
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    found = [(event.step, event.value) for event in events.Scalars("worst_accuracy")]
    network = [row for row in result.rows if row["worker"] is None]
    assert found == [(row["step"], pytest.approx(row["worst_accuracy"], rel=1e-6)) for row in network]


def test_divergence_names_the_largest_rate_and_coefficients_above_one():
    rates = (0.1, 90.0, 0.1, 0.1)
    with pytest.warns(UserWarning) as caught:
        train(ALDSGD(DPSGD(ring(4)), c1=0.9, c2=0.4), mlp, DATA, epochs=3, lr=rates)
    said = [str(warning.message) for warning in caught if "diverged" in str(warning.message)]
    assert len(said) == 1 and "at step" in said[0]
    assert "the largest learning rate is 90 (worker 1's), c1 + c2 = 1.3 is above 1; try a smaller one" in said[0]
