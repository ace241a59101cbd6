"""What the scripts of the theory share: their command line, where their tables go, and writing them."""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from aldsgd.cache import cache_dir, replace_file
from aldsgd.errors import ConfigError
from aldsgd.theory import records
from experiments.options import Parser

PRESETS = ("smoke", "cpu")
#: Options that do not change what a table says.
PLACES = ("preset", "results", "data")


def parser(description: str, seeds: Sequence[int] = ()) -> Parser:
    """The options of every theory script; --seeds only where ``seeds`` are given."""
    p = Parser(description=description.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--preset", choices=PRESETS, default="cpu",
                   help="smoke: seconds, to see that it runs; cpu: what THEORY.md shows (default: cpu)")  # fmt: skip
    if seeds:
        p.add_argument("--seeds", type=int, nargs="+", default=list(seeds), metavar="SEED",
                       help=f"independent runs (default: {' '.join(map(str, seeds))})")  # fmt: skip
    p.add_argument("--results", metavar="DIR", help="where theory/ is kept (default: results; for seeds or graphs of "
                   "your own: my_results; preset smoke: a cache folder)")  # fmt: skip
    return p


def run(script: str, p: Parser, tables: Callable[[argparse.Namespace], Mapping[str, pd.DataFrame]]) -> None:
    """Compute the tables of a script and write them.

    Tables of preset cpu are only ever replaced by those of the same options. Raises ConfigError before any work where
    they would be replaced by others, or cannot be written.
    """
    options = p.parse_args()
    seeds = getattr(options, "seeds", [])
    if not all(0 <= seed < 2**32 for seed in seeds):
        raise ConfigError("--seeds must not be negative, and below 2^32")
    if len(set(seeds)) < len(seeds):
        raise ConfigError("--seeds names a seed twice: runs with one seed are one run")
    configuration = {name: value for name, value in vars(options).items() if name not in PLACES}
    if options.results is None:
        own = any(value != p.get_default(name) for name, value in configuration.items())
        options.results = cache_dir() / "smoke" if options.preset == "smoke" else "my_results" if own else "results"
    records.check_writable(options.results)
    kept = records.described(options.results, script)
    if kept and kept["preset"] == "cpu":
        for name, value in {"preset": options.preset, **configuration}.items():
            before = kept["preset"] if name == "preset" else kept["configuration"].get(name, value)
            if before != value:
                raise ConfigError(
                    f"{options.results} holds {script}'s tables with other --{name}: choose another --results"
                )
    started, used = time.perf_counter(), time.process_time()
    frames = tables(options)
    configuration["seconds"] = round(time.perf_counter() - started, 1)
    # Of one core: what the script costs on a machine that does nothing else.
    configuration["cpu_seconds"] = round(time.process_time() - used + getattr(options, "spent", 0.0), 1)
    records.write(options.results, script, frames, options.preset, configuration)
    rows = ", ".join(f"{name}.csv ({len(frame)} rows)" for name, frame in frames.items())
    print(f"{script}: {rows} in {configuration['seconds']} s, in {options.results}/{records.FOLDER}")


@cache
def code() -> str:
    """SHA-256 of the library, its baselines and the experiments: what any number here is computed with."""
    root, found = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(path for room in ("aldsgd", "baselines", "experiments") for path in (root / room).rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def kept(options: argparse.Namespace, what: Mapping, work: Callable[[], list[list[dict]]]) -> list[list[dict]]:
    """``work()``, lists of rows, or what the same code made of the same ``what`` before a script was interrupted.

    what: all that determines the rows, JSON. The processor time of rows made before is added to ``options.spent``.
    """
    text = json.dumps({"code": code(), **what}, sort_keys=True)
    path = cache_dir() / "theory" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        options.spent = getattr(options, "spent", 0.0) + made["cpu_seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        used = time.process_time()
        made = {"rows": work()}
        made["cpu_seconds"] = time.process_time() - used
        replace_file(path, lambda temporary: temporary.write_text(json.dumps(made)))
    return made["rows"]
