"""Runs that were cut off or damaged, or met a full disk or another process, are never taken for complete."""

import errno
import json
import os

import pytest

from aldsgd import records
from aldsgd.errors import ConfigError
from aldsgd.records import AlreadyComplete, RunStore, key
from tests.test_records import CONFIG, ENVIRONMENT, epoch_rows, python, record, snapshot


def leave_unfinished(store):
    with store.writer(CONFIG, ENVIRONMENT) as writer:
        writer.append(epoch_rows(1))


def crash(store):
    with pytest.raises(RuntimeError, match="power cut"):
        with store.writer(CONFIG, ENVIRONMENT) as writer:
            writer.append(epoch_rows(1))
            raise RuntimeError("power cut")


def damage(change):
    def leave(store):
        run = record(store)
        change(run.csv, run.csv.with_suffix(".json"))

    return leave


def edit_json(**fields):
    def change(_, path):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return damage(change)


BROKEN = {
    "no finish": leave_unfinished,
    "exception": crash,
    "between the two renames": damage(lambda csv, path: path.unlink()),
    "JSON without CSV": damage(lambda csv, path: csv.unlink()),
    "JSON cut in the middle": damage(lambda csv, path: path.write_bytes(path.read_bytes()[:200])),
    "empty JSON": damage(lambda csv, path: path.write_bytes(b"")),
    "JSON of another kind": damage(lambda csv, path: path.write_text("[1, 2]")),
    "JSON that is not text": damage(lambda csv, path: path.write_bytes(b"\xff\xfe\x00")),
    "CSV cut in the middle": damage(lambda csv, path: csv.write_bytes(csv.read_bytes()[:-40])),
    "CSV with a row more": damage(lambda csv, path: csv.write_bytes(csv.read_bytes() + b"3,21,,,\n")),
    "CSV with one digit changed": damage(
        lambda csv, path: csv.write_bytes(csv.read_bytes().replace(b"0.333333333", b"0.333333334"))
    ),
    "not complete": edit_json(complete=False),
    "no hash": edit_json(csv_sha256=None),
}


@pytest.mark.parametrize("leave", BROKEN.values(), ids=BROKEN.keys())
def test_unfinished_or_damaged_is_never_complete(tmp_path, leave):
    store = RunStore(tmp_path)
    leave(store)
    assert store.load(CONFIG) is None
    assert store.runs() == [] and store.find(key(CONFIG)) is None
    # and it can be trained again, over what is left
    record(store)
    assert store.load(CONFIG) is not None
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".csv", ".json"]


def test_a_complete_run_is_never_recorded_again(tmp_path):
    store = RunStore(tmp_path)
    first = record(store)
    before = snapshot(store.folder)
    with pytest.raises(AlreadyComplete) as caught:
        record(store, epochs=3)
    assert caught.value.run == first and "\n" not in str(caught.value)
    assert snapshot(store.folder) == before


def test_a_run_that_another_process_finishes_between_look_up_and_lock(tmp_path, monkeypatch):
    store, lock = RunStore(tmp_path), records.RunWriter._lock

    def late(writer):
        monkeypatch.setattr(records.RunWriter, "_lock", lock)
        writer.part.unlink()  # what opening made; the other process has its own, and renames it
        record(store)
        writer._file = open(writer.part, "ab")
        writer._lock()

    monkeypatch.setattr(records.RunWriter, "_lock", late)
    with pytest.raises(AlreadyComplete):
        record(store, epochs=3)
    assert len(store.load(CONFIG).network) == 2
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".csv", ".json"]


@pytest.mark.parametrize("broken", ["replace_file", "os.replace"])
def test_kill_around_the_last_rename(tmp_path, monkeypatch, broken):
    store = RunStore(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if broken == "os.replace":
            patch.setattr(records, "replace_file", lambda path, write: write(path))
        patch.setattr(records if broken == "replace_file" else os, broken.removeprefix("os."), killed)
        with pytest.raises(KeyboardInterrupt):
            record(store)
    assert store.load(CONFIG) is None
    assert record(store).network["epoch"].tolist() == [1, 2]


class Full:
    """A file on a disk that is full from the ``room``-th write on."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def close(self):
        self.file.close()
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk_while_rows_are_written(tmp_path, monkeypatch, room):
    store = RunStore(tmp_path)
    kept = record(store, CONFIG | {"seed": 7})
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda path, mode, open=open: Full(open(path, mode), room))
        with pytest.raises(ConfigError, match="No space left") as caught:
            record(store)
    assert "\n" not in str(caught.value) and store.load(CONFIG) is None
    assert [run.key for run in store.runs()] == [kept.key]
    assert record(store).network["epoch"].tolist() == [1, 2]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_at_the_end(tmp_path, monkeypatch, call):
    store = RunStore(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(ConfigError, match="No space left"):
            record(store)
        patch.undo()
    assert store.load(CONFIG) is None and [path.suffix for path in store.folder.iterdir()] == [".part"]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".csv.part"])
def test_a_folder_in_place_of_a_file(tmp_path, suffix):
    store = RunStore(tmp_path)
    folder = store.folder / (store.stem(CONFIG) + suffix)
    folder.mkdir(parents=True)
    assert store.load(CONFIG) is None and store.runs() == []
    with pytest.raises(ConfigError, match="is a folder") as caught:
        record(store)
    assert str(folder) in str(caught.value) and list(store.folder.iterdir()) == [folder]


@pytest.mark.skipif(records.fcntl is None, reason="no file locks on this system")
def test_two_processes_never_record_the_same_run(tmp_path):
    other = (
        "import sys\nfrom aldsgd.records import RunStore\nfrom aldsgd.errors import ConfigError\n"
        f"try:\n    RunStore({str(tmp_path)!r}).writer({CONFIG!r}, {{}}).__enter__()\n"
        "except ConfigError as error:\n    sys.exit(str(error))\n"
    )
    store = RunStore(tmp_path)
    with store.writer(CONFIG, ENVIRONMENT) as writer:
        writer.append(epoch_rows(1))
        second = python(other)
        assert second.returncode == 1 and "another process" in second.stderr
        assert len(writer.part.read_text().splitlines()) == 4
        writer.finish()
    assert len(store.load(CONFIG).rows) == 3
