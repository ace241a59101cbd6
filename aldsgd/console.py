"""The console command: ``aldsgd run ...`` is ``python -m experiments.run ...``, and so is every other script."""

import pkgutil
import runpy
import sys

from aldsgd import parts

#: Modules of the experiments that are no scripts.
SHARED = {
    "command",
    "configuration",
    "options",
    "pool",
    "rates",
    "runner",
    "scales",
    "theory_common",
    "theory_observed",
}


def scripts() -> list[str]:
    """Names of every script."""
    found = pkgutil.iter_modules([str(parts.folder() / "experiments")])
    return [module.name for module in found if module.name not in SHARED]


def main() -> None:
    """Run the script that the first argument names, with the rest. Unknown names are one line and exit code 2."""
    parts.ready()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--version", "-V"):
        from aldsgd import __version__

        print(f"aldsgd {__version__}")
    elif name in ("--help", "-h"):
        print(f"usage: aldsgd SCRIPT [OPTIONS]; aldsgd SCRIPT --help lists them\nscripts: {', '.join(scripts())}")
    elif name not in scripts():
        print(f"error: there is no script {name!r}; choose one of: {', '.join(scripts())}", file=sys.stderr)
        sys.exit(2)
    else:
        sys.argv = [f"aldsgd {name}", *sys.argv[2:]]
        runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
