"""Files that are written whole or not at all."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from aldsgd.cache import replace_file


def full_disk(path):
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def stopped(path):
    path.write_bytes(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("write, error", [(full_disk, OSError), (stopped, KeyboardInterrupt)])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, write, error, before):
    path = tmp_path / "sub" / "kept.json"
    if before is not None:
        replace_file(path, lambda temporary: temporary.write_bytes(before))
    with pytest.raises(error) as caught:
        replace_file(path, write)
    assert {file.name for file in path.parent.iterdir()} == ({"kept.json"} if before else set())
    assert before is None or path.read_bytes() == before
    if error is OSError:
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
        assert str(path) in str(caught.value) and "No space left on device" in caught.value.strerror


def test_a_really_full_device_is_told_by_the_name_of_the_file(tmp_path):
    path = tmp_path / "kept.npz"
    with pytest.raises(OSError, match="No space left on device: '.*kept.npz'"):
        replace_file(path, lambda temporary: Path("/dev/full").write_bytes(b"x" * 100_000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("obstacle", ["folder", "file above"])
def test_what_is_in_the_way_is_named(tmp_path, obstacle):
    path = tmp_path / "above" / "kept.txt"
    if obstacle == "folder":
        path.mkdir(parents=True)
    else:
        path.parent.write_text("in the way")
    with pytest.raises(OSError) as caught:
        replace_file(path, lambda temporary: temporary.write_text("new"))
    assert caught.value.filename == str(path)
    assert [file.name for file in tmp_path.rglob("*")] == (["above", "kept.txt"] if obstacle == "folder" else ["above"])


def test_errors_without_a_number_are_kept(tmp_path):
    def broken(path):
        raise OSError("the codec gave up")

    with pytest.raises(OSError, match="the codec gave up") as caught:
        replace_file(tmp_path / "kept.txt", broken)
    assert caught.value.filename == str(tmp_path / "kept.txt")


def test_suffixes_are_kept_for_writers_that_look_at_them(tmp_path):
    replace_file(tmp_path / "kept.npz", lambda temporary: np.savez(temporary, a=[1, 2]))
    assert [file.name for file in tmp_path.iterdir()] == ["kept.npz"]
    assert np.load(tmp_path / "kept.npz")["a"].tolist() == [1, 2]
