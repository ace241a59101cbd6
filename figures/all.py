"""Draw every figure whose experiment has complete runs. python -m figures.all --results results --out figures"""

import importlib
import sys
from pathlib import Path

from figures.common import script

FIGURES = (
    "quickstart", "convergence", "final_accuracy", "sparsity", "degree_effect", "ablation", "sensitivity",
    "sixteen_workers", "baseline_audit", "communication", "non_iid", "starts", "heterogeneous",
)  # fmt: skip


def draw(results: Path, out: Path) -> list[Path]:
    """Draw what can be drawn, in order; returns the files written."""
    written = []
    for name in FIGURES:
        if (results / "experiments" / f"{name}.json").exists():
            written += importlib.import_module(f"figures.{name}").draw(results, out)
    return written


if __name__ == "__main__":
    sys.exit(script("all", draw))
