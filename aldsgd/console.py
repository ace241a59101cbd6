"""The console command: ``aldsgd run ...`` is ``python -m experiments.run ...``, and so is every other script."""

import pkgutil
import runpy
import sys

from aldsgd import parts


def scripts() -> list[str]:
    """Names of every script: those whose heads say with which command they are run."""
    folder = parts.folder() / "experiments"
    found = []
    for module in pkgutil.iter_modules([str(folder)]):
        path = folder / module.name / "__main__.py" if module.ispkg else folder / f"{module.name}.py"
        if path.is_file() and f"python -m experiments.{module.name}" in path.read_text(encoding="utf-8"):
            found.append(module.name)
    return found


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
