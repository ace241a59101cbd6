"""What an installation brings: one top-level name, the console command, and a cache folder of the user's."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import aldsgd
from aldsgd.console import scripts

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with what ``pip install .`` puts into site-packages, of this package alone."""
    pytest.importorskip("setuptools")
    root = tmp_path_factory.mktemp("install")
    kept = ("aldsgd", "baselines", "experiments", "figures", "tables")
    source = root / "source"
    source.mkdir()
    for name in (
        *kept,
        "pyproject.toml",
        "requirements.txt",
        "README.md",
        "LICENSE",
        "paper_tables.py",
        "theory_report.py",
    ):
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index",
               "-w", str(root), str(source)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = root.glob("*.whl")
    assert f"-{aldsgd.__version__}-" in wheel.name
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(root / "site")
    return root / "site"


def called(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    environment.pop("ALDSGD_CACHE", None)
    command = [sys.executable, "-P", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_only_one_name_is_taken(site):
    assert sorted(path.name for path in site.iterdir() if not path.name.endswith(".dist-info")) == ["aldsgd"]
    (points,) = site.glob("*.dist-info/entry_points.txt")
    assert "aldsgd = aldsgd.console:main" in points.read_text()
    assert not list(site.rglob("test*.py")) and not list(site.rglob("*.csv"))


def test_the_command_trains_and_compares(site, tmp_path):
    short = ("--train-images", "64", "--test-images", "20", "--epochs", "1", "--batch", "4", "--quiet")
    for method in ("dpsgd", "aldsgd"):
        done = called(site, tmp_path, "-m", "aldsgd.console", "run", "--method", method, *short)
        assert done.returncode == 0 and "worst_accuracy" in done.stdout, done.stderr
    assert len(list((tmp_path / "my_results" / "runs").glob("*.csv"))) == 2
    both = ("my_results:method=dpsgd", "my_results:method=aldsgd")
    done = called(site, tmp_path, "-m", "aldsgd.console", "compare", *both, "--out", "drawn")
    assert done.returncode == 0 and "less D-PSGD's" in done.stdout, done.stderr
    assert (tmp_path / "drawn" / "compare.png").is_file()


def test_pools_and_caches_work_where_it_is_installed(site, tmp_path):
    words = ("matcha_run", "--preset")
    done = called(site, tmp_path, "-m", "aldsgd.console", *words)
    assert done.returncode == 2 and "there is no script 'matcha_run'; choose one of: ablation" in done.stderr
    done = called(
        site, tmp_path, "-m", "aldsgd.console", "momentum", "--preset", "smoke", "--seeds", "0", "--jobs", "2"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cache" / "aldsgd" / "smoke" / "experiments" / "momentum.json").is_file()


def test_the_library_is_all_there(site, tmp_path):
    code = (
        "import aldsgd, sys; from aldsgd import ALDSGD, DPSGD, MATCHA, Topology, load, train\n"
        "assert aldsgd.__file__.startswith(sys.argv[1]), aldsgd.__file__\n"
        "print(ALDSGD(DPSGD(Topology.from_edges(3, [(0, 1), (1, 2)]))).n, aldsgd.__version__)"
    )
    done = called(site, tmp_path, "-c", code, str(site))
    assert done.returncode == 0 and done.stdout.split() == ["3", aldsgd.__version__], done.stderr
    done = called(site, tmp_path, "-m", "aldsgd.console", "--version")
    assert done.stdout == f"aldsgd {aldsgd.__version__}\n"


def test_every_package_is_listed_and_every_script_is_a_command():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {str(path.parent.relative_to(ROOT)).replace("/", ".") for name in ("aldsgd", "baselines", "experiments",
             "figures", "tables") for path in (ROOT / name).rglob("__init__.py")}  # fmt: skip
    assert {name.replace("aldsgd._parts.", "") for name in listed} - {"aldsgd._parts"} == found
    runnable = {path.stem for path in (ROOT / "experiments").glob("*.py") if "__main__" in path.read_text()}
    assert set(scripts()) == runnable | {"bench"}
