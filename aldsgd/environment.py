"""What a run was made with: versions, hardware, and the state of this repository. Nothing here imports torch."""

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "networkx", "cvxpy", "scikit-learn")


def environment(device_name: str | None = None, threads: int | None = None) -> dict:
    """What a run was made with: package versions, hardware, and the state of this repository.

    Args:
        device_name: name of the accelerator, or None for a CPU run.
        threads: CPU threads that training used.

    Returns:
        ``versions`` (None where not installed), ``hardware``, ``commit`` (None outside a git checkout of this
        repository) and ``clean`` (nothing outside ``results/`` and ``figures/`` differs from it).
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    hardware = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "device": device_name,
        "threads": threads,
    }
    commit, clean = _git_state(Path(__file__).resolve().parents[1])
    return {"versions": versions, "hardware": hardware, "commit": commit, "clean": clean}


def _cpu_model() -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _git_state(root: Path) -> tuple[str | None, bool | None]:
    """(commit, clean) of the checkout whose top folder is ``root``; (None, None) if there is none."""

    def git(*arguments: str) -> str:
        # Without optional locks, asking for the state never disturbs a commit that is being made.
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            check=True, capture_output=True, text=True, timeout=30,
        ).stdout.strip()  # fmt: skip

    try:
        # A copy installed inside some other project's checkout must not report that project's commit.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None, None
        changed = git("status", "--porcelain", "--", ".", ":(exclude)results", ":(exclude)figures")
        return git("rev-parse", "HEAD"), not changed
    except (OSError, subprocess.SubprocessError):
        return None, None
