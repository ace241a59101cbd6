"""The program under fire: a disk that fails at any access, crashes, two writers, tampering, clocks, signals."""

import errno
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import paper_tables
import theory_report
from aldsgd import records
from aldsgd.checkpoint import Checkpoints
from aldsgd.errors import ConfigError
from aldsgd.records import AlreadyComplete, RunStore
from aldsgd.saving import load_model
from experiments import run, runner, theory_lsgd
from experiments.configuration import RunConfig
from experiments.options import Execution
from figures import style
from tables import refused
from tests.calling import SHORT, call, files
from tests.faulty_disk import failing

ROOT = Path(__file__).parents[1]
FULL, FORBIDDEN = errno.ENOSPC, errno.EACCES


# A disk that fails at any access


def settled(folder: Path) -> dict[str, bytes]:
    """What is finished below a folder: nothing hidden, partial or in work."""
    return {
        name: content
        for name, content in files(folder).items()
        if not name.endswith(".part") and not any(part.startswith(".") for part in Path(name).parts)
    }


def everywhere(folder: Path, work, check, before=lambda: None, most: int = 400) -> int:
    """``work()`` with a disk that fails at each access in turn, full or forbidden; ``check(k, what it gave)``.

    before: what makes the folder ready for each. Returns how many accesses there are.
    """
    for k in range(1, most):
        before()
        with failing(folder, k, FULL if k % 2 else FORBIDDEN) as disk:
            found = work()
        if not disk.failed:
            return k - 1
        check(k, found)
    raise AssertionError("it never ends")


def test_a_run_whose_disk_fails_anywhere_is_one_line_and_loses_nothing(tmp_path):
    """Rows, JSON, checkpoints and models; a complete run stays as it was, and the same command goes on."""
    results, models = tmp_path / "results", tmp_path / "models"
    options = (*SHORT, "--workers", "2", "--graph", "line", "--epochs", "2", "--checkpoint-every", "1")
    assert call(run, *options, "--seeds", "7", "--results", results).code == 0
    before = files(results / "runs")

    def ready():
        shutil.rmtree(models, ignore_errors=True)
        for path in (results / "runs").iterdir():
            if path.name not in before:
                path.unlink()

    def work():
        return call(run, *options, "--save-models", models, "--results", results)

    def check(k, ended):
        # What is only tidied up may stay: then the run is complete.
        assert ended.refused or ended.code == 0, (k, ended)
        after = files(results / "runs")
        assert {name: after[name] for name in before} == before, k
        assert (len(RunStore(results).runs()) == 2) == (ended.code == 0), (k, ended)

    assert everywhere(tmp_path, work, check, ready) > 20
    assert len(RunStore(results).runs()) == 2


def test_tables_reports_and_figures_are_whole_or_as_they_were(tmp_path, monkeypatch):
    """The CSVs of a theory script, a text with tables, a figure: whichever access fails, it is said, and nothing is
    left half written."""
    import pandas as pd

    monkeypatch.setattr(theory_lsgd, "tables", lambda options: {"one": pd.DataFrame({"x": [1.5]})})
    results, out = tmp_path / "results", tmp_path / "out"
    out.mkdir()
    assert call(run, *SHORT, "--results", results).code == 0
    (out / "README.md").write_text("<!-- table: methods -->\nold\n<!-- end -->\n")

    def theory():
        return call(theory_lsgd, "--preset", "smoke", "--results", results).code

    def tables():
        arguments = ["--into", str(out / "README.md"), "--results", str(ROOT / "results")]
        return paper_tables.main(arguments)

    def figure():
        fig = style.empty(1)
        try:
            style.save(fig, out / "figure")
        except ConfigError:
            return 2
        return 0

    for work in (theory, tables, figure):
        assert work() == 0
        whole = settled(tmp_path)

        def check(k, code, whole=whole):
            assert code in (0, 2), k  # 0 where what failed was not needed
            assert set(settled(tmp_path)) == set(whole)
            for name, content in settled(tmp_path).items():  # renewed with another clock, or as it was
                assert content == whole[name] or name.endswith(".json"), (k, name)

        assert everywhere(tmp_path, work, check) >= 2


# The store


ROWS = [{"epoch": 1, "step": 2, "worker": worker, "test_accuracy": 0.5} for worker in (0, 1, None)]


def config(number: int) -> dict:
    return {"dataset": "digits", "method": "dpsgd", "workers": 2, "seed": number}


class Crash(Exception):
    """The process is gone here."""


def written(store: RunStore, number: int, value: float):
    """A whole run whose rows tell when it was made."""
    with store.writer(config(number), {}) as writer:
        writer.append([row | {"train_loss": value} for row in ROWS])
        return writer.finish()


class Store(RuleBasedStateMachine):
    """Runs are written, cut off at any access, written by two at once with and without locks, and tampered with.

    Known: seed -> bytes of the CSV of each run that was completed and not touched since.
    """

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store, self.known, self.spoiled, self.made = RunStore(self.folder), {}, set(), 0.0

    def teardown(self):
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self):
        self.write(0)

    def value(self) -> float:
        self.made += 1
        return self.made

    def note(self, found, number: int) -> None:
        self.known[number] = found.csv.read_bytes()
        self.spoiled.discard(number)

    @rule(number=st.integers(0, 3))
    def write(self, number):
        try:
            self.note(written(self.store, number, self.value()), number)
        except AlreadyComplete as error:
            assert number in self.known and error.run.csv.read_bytes() == self.known[number]

    @rule(number=st.integers(0, 3), k=st.integers(1, 14), error=st.sampled_from([FULL, FORBIDDEN]))
    def crash(self, number, k, error):
        """The k-th access fails: a complete run, or none, and whoever was complete before still is."""
        with failing(self.folder, k, error):
            try:
                found = written(self.store, number, self.value())
            except (AlreadyComplete, ConfigError):
                found = None
        run_ = self.store.load(config(number))
        if number not in self.known and run_ is not None:
            assert found is not None or run_.csv.read_bytes()
            self.note(run_, number)

    @rule(number=st.integers(0, 3), locks=st.booleans(), both=st.booleans())
    def two(self, number, locks, both):
        """Two writers at once; one or both finish."""
        flock = records.fcntl.flock
        if not locks:
            records.fcntl.flock = lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks available"))
        try:
            with self.store.writer(config(number), {}) as first:
                first.append([row | {"train_loss": self.value()} for row in ROWS])
                try:
                    with self.store.writer(config(number), {}) as second:
                        assert not locks
                        second.append([row | {"train_loss": self.value()} for row in ROWS])
                        self.note(second.finish(), number)
                except ConfigError:
                    assert locks
                first.append([row | {"epoch": 2, "train_loss": self.value()} for row in ROWS])
                if both or locks:
                    own = first.finish()
                    if number not in self.known:
                        self.note(own, number)
        except AlreadyComplete:
            assert number in self.known
        finally:
            records.fcntl.flock = flock

    @rule(number=st.integers(0, 3), how=st.sampled_from(["byte", "short", "empty", "gone", "json", "other"]))
    def tamper(self, number, how):
        if number not in self.known:
            return
        csv = self.store.folder / f"{self.store.stem(config(number))}.csv"
        path, content = csv, csv.read_bytes()
        if how == "byte":
            csv.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
        elif how == "short":
            csv.write_bytes(content[:-1])
        elif how == "empty":
            csv.write_bytes(b"")
        elif how == "gone":
            csv.unlink()
        elif how == "json":
            path = csv.with_suffix(".json")
            path.write_text(path.read_text().replace('"complete": true', '"complete": false'))
        else:
            others = [other for other in self.known if other != number and self.known[other] != content]
            if not others:
                return
            csv.write_bytes(self.known[others[0]])
        del self.known[number]
        self.spoiled.add(number)

    @invariant()
    def nothing_is_lost_doubled_or_altered_unnoticed(self):
        for store in (self.store, RunStore(self.folder)):
            found = {run_.config["seed"]: run_ for run_ in store.runs()}
            assert len(found) == len(store.runs()) and set(found) == set(self.known), (self.known.keys(), found.keys())
            for number, run_ in found.items():
                assert run_.csv.read_bytes() == self.known[number]
                assert hashlib.sha256(run_.csv.read_bytes()).hexdigest() == run_.meta["csv_sha256"]
        assert not any(self.store.load(config(number)) for number in self.spoiled)


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    now = time.time_ns
    for number, jump in enumerate((0, 10**17, -(10**17), 0)):
        monkeypatch.setattr(time, "time_ns", lambda jump=jump: now() + jump)
        written(RunStore(tmp_path), number, float(number))
        assert [run_.config["seed"] for run_ in RunStore(tmp_path).runs()] == sorted(
            (run_.config["seed"] for run_ in RunStore(tmp_path).runs()), key=lambda n: RunStore.stem(None, config(n))
        )
        assert len(RunStore(tmp_path).runs()) == number + 1
    for path in (tmp_path / "runs").iterdir():
        os.utime(path, ns=(now() + 10**17,) * 2)
    store = RunStore(tmp_path)
    assert len(store.runs()) == 4
    (path,) = (tmp_path / "runs").glob(f"*{records.key(config(2))}.csv")
    path.write_bytes(path.read_bytes()[:-1])
    os.utime(path, ns=(now() + 10**17,) * 2)
    assert len(store.runs()) == 3 and len(RunStore(tmp_path).runs()) == 3


# What a stranger, or an older version, left


CONFIG = RunConfig(model="logistic", train_images=64, test_images=16, batch=8, epochs=3, lr=0.1)


def stopped(folder: Path):
    """A checkpoint after one epoch, and its description, to be rewritten."""
    trainer = runner.prepare(CONFIG, Execution())
    rows = trainer.record(1, trainer.train_epoch(0))
    checkpoints = Checkpoints(folder, trainer.identity())
    trainer.save(checkpoints, 1, rows)
    (path,) = folder.glob("epoch-*/state.json")
    return path, json.loads(path.read_text())


def rewrite(path: Path, record: dict) -> None:
    """With a sum that fits."""
    record.pop("sha256", None)
    record["sha256"] = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(record))


def test_a_checkpoint_of_the_version_before_is_gone_on_from_and_of_another_format_passed_over(tmp_path):
    path, record = stopped(tmp_path / "c")
    del record["state"]["unsound"]
    rewrite(path, record)
    trainer = runner.prepare(CONFIG, Execution())
    assert trainer.resume(Checkpoints(tmp_path / "c", trainer.identity()))[0] == 1
    rewrite(path, record | {"format": 1})
    with pytest.warns(UserWarning, match="it has format 1, this version writes 2"):
        assert trainer.resume(Checkpoints(tmp_path / "c", trainer.identity()))[0] == 0


def test_no_path_of_a_stranger_leads_out_of_the_folder(tmp_path):
    path, record = stopped(tmp_path / "c")
    secret = tmp_path / "secret"
    secret.write_text("x")
    record["files"]["../../secret"] = hashlib.sha256(b"x").hexdigest()
    rewrite(path, record)
    trainer = runner.prepare(CONFIG, Execution())
    with pytest.warns(UserWarning, match="names other files than those of its workers"):
        assert trainer.resume(Checkpoints(tmp_path / "c", trainer.identity()))[0] == 0
    runs = tmp_path / "results"
    written(RunStore(runs), 1, 1.0)
    listing = {"experiment": "x", "preset": "cpu", "runs": [{"label": "a", "seed": 0, "key": "../../../secret"}]}
    (runs / "experiments").mkdir()
    (runs / "experiments" / "x.json").write_text(json.dumps(listing))
    assert paper_tables.main(["--table", "x", "--results", str(runs)]) == 2


def test_loading_a_strangers_models_runs_no_code(tmp_path):
    about = {"shape": [1], "outputs": 2, "model": "os:getcwd", "task": "classification", "vocabulary": None}
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(ConfigError, match="unknown model 'os:getcwd'"):
        load_model(tmp_path)


# Signals


@pytest.mark.parametrize("at", ["argparse", "experiments.runner"])
def test_ctrl_c_is_one_line_from_the_first_import_on(tmp_path, at):
    command = [sys.executable, "-X", "importtime", "-m", "experiments.degree_effect", "--preset", "smoke", "--results"]
    with subprocess.Popen(
        [*command, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        seen = []
        for line in process.stderr:
            seen.append(line)
            if line.rstrip().endswith(" numpy") and at == "argparse" or "torch._C" in line and at != "argparse":
                process.send_signal(signal.SIGINT)
                break
        seen += process.stderr.readlines()
    said = [line for line in seen if not line.startswith("import time:")]
    assert process.returncode == 130 and len(said) == 1 and said[0].startswith("stopped; "), (process.returncode, said)
    assert not files(tmp_path)


# The table of all that was tried


def test_the_table_of_bad_input_is_the_generated_one_and_each_of_its_faults_has_its_test(tmp_path):
    rows = refused.refused(ROOT / "results").rows
    assert len(rows) >= 120
    for test in dict.fromkeys(fault.test for fault in refused.faults()):
        module, _, name = test.partition("::")
        assert hasattr(importlib.import_module(f"tests.{module.removesuffix('.py')}"), name), test
    copy = tmp_path / "bad_input.md"
    shutil.copy(ROOT / "docs" / "bad_input.md", copy)
    assert paper_tables.main(["--into", str(copy), "--results", str(ROOT / "results")]) == 0
    assert copy.read_text() == (ROOT / "docs" / "bad_input.md").read_text()


def test_a_report_that_cannot_be_written_is_one_line(tmp_path, capsys):
    code = theory_report.main(["--out", str(tmp_path / "no" / "such\0place")])
    assert code == 2 and capsys.readouterr().err.count("\n") == 1
