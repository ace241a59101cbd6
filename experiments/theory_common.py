"""What the scripts of the theory share: their command line, and writing their tables."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from aldsgd import theory_records
from aldsgd.errors import ConfigError

PRESETS = ("smoke", "cpu")


def parser(description: str, seeds: Sequence[int] = ()) -> argparse.ArgumentParser:
    """The options of every theory script; --seeds only where ``seeds`` are given."""
    p = argparse.ArgumentParser(description=description.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--preset", choices=PRESETS, default="cpu",
                   help="smoke: seconds, to see that it runs; cpu: what THEORY.md shows (default: cpu)")  # fmt: skip
    if seeds:
        p.add_argument("--seeds", type=int, nargs="+", default=list(seeds), metavar="SEED",
                       help=f"independent runs (default: {' '.join(map(str, seeds))})")  # fmt: skip
    p.add_argument("--results", default="results", metavar="DIR", help="where theory/ is kept (default: results)")
    return p


def run(script: str, options: argparse.Namespace, tables: Callable[[argparse.Namespace], Mapping[str, pd.DataFrame]]):
    """Compute the tables of a script and write them. ConfigError before any work where they cannot be written."""
    if any(seed < 0 for seed in getattr(options, "seeds", ())):
        raise ConfigError("--seeds must not be negative")
    if len(set(getattr(options, "seeds", ()))) < len(getattr(options, "seeds", ())):
        raise ConfigError("--seeds names a seed twice: runs with one seed are one run")
    theory_records.check_writable(options.results)
    if options.preset == "smoke" and theory_records.preset_of(options.results, script) == "cpu":
        raise ConfigError(
            f"{options.results} holds {script}'s tables at preset cpu: give a smoke run another --results"
        )
    started, used = time.perf_counter(), time.process_time()
    frames = tables(options)
    configuration = {name: value for name, value in vars(options).items() if name not in ("preset", "results", "data")}
    configuration["seconds"] = round(time.perf_counter() - started, 1)
    # Of one core: what the script costs on a machine that does nothing else.
    configuration["cpu_seconds"] = round(time.process_time() - used, 1)
    theory_records.write(options.results, script, frames, options.preset, configuration)
    rows = ", ".join(f"{name}.csv ({len(frame)} rows)" for name, frame in frames.items())
    print(f"{script}: {rows} in {configuration['seconds']} s")
