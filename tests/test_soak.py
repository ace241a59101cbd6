"""The soak finds what it should find, trains what it says, and its table is what it counted."""

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from aldsgd.errors import ConfigError
from aldsgd.records import RunStore
from experiments.configuration import linked
from experiments.options import configuration, run_parser
from experiments.soak import differs, drawn, words, wrong
from tables.soak import soak

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def soaked(tmp_path_factory):
    """Two runs, the first made once more."""
    folder = tmp_path_factory.mktemp("soak") / "results"
    done = subprocess.run(
        [sys.executable, "-m", "experiments.soak", "--runs", "2", "--seed", "3", "--results", str(folder)],
        cwd=ROOT, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_command_line_is_the_run_that_was_drawn():
    seen = set()
    for number in range(200):
        config, processes = drawn(0, number)
        with patch.object(sys, "argv", ["run", *words(config, Path("nowhere"))]):
            options = run_parser("").parse_args()
        assert linked(configuration(options), options.link).but(seed=config.seed).key == config.key, number
        seen.add((config.method, processes))
    assert len(seen) > 15 and {processes for _, processes in seen} == {1, 2}


def test_what_is_counted_stands_in_the_table(soaked, tmp_path):
    found = json.loads((soaked / "soak.json").read_text())
    assert found["runs"] == found["R = 1"] + found["R = 2"] == 2 and found["starts"] >= 2 and found["compared"] == 1
    assert len(list((soaked / "runs").glob("*.json"))) == 2 and found["wrong"] == {} and found["hangs"] == 0
    (tmp_path / "bench").mkdir()
    with pytest.raises(ConfigError, match="experiments.soak writes such a file"):
        soak(tmp_path)
    (tmp_path / "bench/soak.json").write_text(json.dumps(found | {"wrong": {"lost": 2, "rows": 1}}))
    counts = dict(soak(tmp_path).rows.itertuples(index=False))
    assert counts["runs"] == "2" and counts["records lost, doubled or wrong"] == "3"


def test_every_kind_of_wrong_record_is_found(soaked):
    config, processes = drawn(3, 0)
    store, folder = RunStore(soaked), soaked / "runs"
    stem = store.stem(config.record())
    assert wrong(config, soaked) is None and not differs(config, processes, soaked, soaked / "again")
    left = soaked / "checkpoints" / stem
    left.mkdir(parents=True)
    assert wrong(config, soaked) == "left over"
    left.rmdir()
    twice = folder / f"other-{config.key}.json"
    twice.write_text("{}")
    assert wrong(config, soaked) == "doubled"
    twice.unlink()
    (folder / f"{stem}.csv").rename(folder / "elsewhere")
    assert wrong(config, soaked) == "lost"
    (folder / "elsewhere").rename(folder / f"{stem}.csv")
    assert wrong(config, soaked) is None
