"""Every method of the repository: what it is, where it stands, what tests it, and the command that runs it."""

import re
from importlib import import_module
from pathlib import Path

from baselines.registry import METHODS
from tables.base import Table, table

ROOT = Path(__file__).resolve().parents[1]


def module_of(name: str) -> str:
    """The module that a method's entry stands in."""
    for path in (*sorted((ROOT / "baselines").glob("*.py")), ROOT / "aldsgd" / "leaders.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        entries = vars(import_module(module)).values()
        if path.stem not in ("__init__", "registry") and any(entry is METHODS[name] for entry in entries):
            return module
    raise KeyError(name)


def tested_by(module: str) -> list[str]:
    """Test files that import a module."""
    found = []
    package, _, name = module.rpartition(".")
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if re.search(rf"from {re.escape(module)} import|from {package} import [^\n]*\b{name}\b", text):
            found.append(path.name)
    return found


def catalogue(root: Path) -> Table:
    """One row a method, in the order of the registry."""
    rows = []
    for name, entry in METHODS.items():
        module = module_of(name)
        path = module.replace(".", "/") + ".py"
        head = (import_module(module).__doc__ or "").split("\n\n")[0]
        tests = tested_by(module)[:2]
        rows.append(
            {
                "method": entry.label,
                "file, with equation and source": f"[{path}](../{path})",
                "what it is": " ".join(head.split()),
                "tests": ", ".join(f"[{test}](../tests/{test})" for test in tests),
                "command": f"`python -m experiments.run --method {name}`",
            }
        )
    caption = (
        f"{len(rows)} methods. Their options: `python -m experiments.run --help`; more forms of one, with other graphs "
        "or cores, are options of it."
    )
    return table(caption, rows)
