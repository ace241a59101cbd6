"""Every table of this repository, built from the store of runs alone (torch is never imported).

    python paper_tables.py                                      every table whose experiment has been run
    python paper_tables.py --table quickstart --format latex --out quickstart.tex
    python paper_tables.py --claims                             writes CLAIMS.md
    python paper_tables.py --into README.md                     renews the tables between the marks of a text

A table is a function from the results folder to a caption and a frame of text; ``TABLES`` names them all.
"""

import argparse
import csv
import io
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from aldsgd.cache import replace_file
from aldsgd.errors import ConfigError
from tables import claims, experiments
from tables.base import Table, methods, number

__all__ = ["FORMATS", "TABLES", "Table", "number", "render"]

TABLES: dict[str, Callable[[Path], Table]] = {
    "quickstart": partial(methods, name="quickstart"),
    "cifar10_short": partial(methods, name="cifar10_short"),
    "claims": claims.overview,
    **experiments.TABLES,
}


def to_markdown(table: Table) -> str:
    names = list(table.rows.columns)
    lines = [names, *table.rows.to_numpy().tolist()]
    width = [max(len(line[i]) for line in lines) for i in range(len(names))]
    # Labels to the left, everything else to the right, as numbers are read.
    rule = ["-" * width[0], *("-" * (w - 1) + ":" for w in width[1:])]
    padded = [[line[0].ljust(width[0]), *map(str.rjust, line[1:], width[1:])] for line in lines]
    return "\n".join([table.caption, "", *("| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]])])


def to_latex(table: Table) -> str:
    """A ``table*`` for two-column pages; needs the booktabs package."""
    head, *body = [list(table.rows.columns), *table.rows.to_numpy().tolist()]
    lines = [" & ".join(map(latex, line)) + r" \\" for line in [head, *body]]
    return "\n".join(
        [
            r"\begin{table*}", r"\centering", rf"\caption{{{latex(table.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", lines[0], r"\midrule", *lines[1:],
            r"\bottomrule", r"\end{tabular}", r"\end{table*}",
        ]
    )  # fmt: skip


def latex(text: str) -> str:
    text = re.sub(r"([%&_#$])", r"\\\1", text)
    text = re.sub(r"(?<!\w)-(?=\d)", "$-$", text)
    return text.replace("±", r"$\pm$").replace("||X - JX||²/n", r"$\|X-JX\|^2/n$").replace("10⁶", "$10^6$")


def to_csv(table: Table) -> str:
    """Comma-separated values below one comment line with the caption: ``pandas.read_csv(f, comment="#")``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([list(table.rows.columns), *table.rows.to_numpy().tolist()])
    return f"# {table.caption}\n{text.getvalue()}".rstrip("\n")


FORMATS = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv}


def render(name: str, root: Path | str = "results", layout: str = "markdown") -> str:
    """The named table, or "all" whose experiment has been run, as text in one of ``FORMATS``.

    Raises ConfigError, naming the command to run, when runs are missing.
    """
    root, names = Path(root), [name]
    if name == "all":
        names = [known for known in TABLES if (root / "experiments" / f"{known}.json").exists()]
        if not names:
            raise ConfigError(f"no experiment has been run in {root}: start with python -m experiments.quickstart")
    return "\n\n".join(FORMATS[layout](TABLES[known](root)) for known in names)


def renew(text: str, root: Path | str = "results") -> str:
    """``text`` with every table between ``<!-- table: NAME -->`` and ``<!-- end -->`` made anew.

    Raises ConfigError for an unknown table, as ``render`` does, and where the text has no such mark.
    """

    def made(mark: re.Match) -> str:
        if mark[1] not in TABLES:
            raise ConfigError(f"unknown table '{mark[1]}'; choose one of: {', '.join(TABLES)}")
        return f"<!-- table: {mark[1]} -->\n{render(mark[1], root)}\n<!-- end -->"

    text, count = re.subn(r"<!-- table: (\S+) -->\n.*?<!-- end -->", made, text, flags=re.DOTALL)
    if not count:
        raise ConfigError("the text has no table to renew; mark one with <!-- table: NAME --> and <!-- end -->")
    return text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Print the tables made from the recorded runs.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the runs (default: results)")
    parser.add_argument(
        "--table", choices=[*TABLES, "all"], default="all", help="which table (default: all that exist)"
    )
    parser.add_argument("--format", choices=list(FORMATS), default="markdown", help="how to print it")
    parser.add_argument("--out", type=Path, help="file to write instead of the standard output")
    parser.add_argument(
        "--claims", action="store_true", help="write the list of the paper's claims (CLAIMS.md) instead"
    )
    parser.add_argument("--into", type=Path, metavar="FILE", help="renew the tables between the marks of FILE")
    options = parser.parse_args(arguments)
    try:
        if options.into:
            text, options.out = renew(options.into.read_text(encoding="utf-8"), options.results), options.into
        elif options.claims:
            text, options.out = claims.render(options.results), options.out or Path("CLAIMS.md")
        else:
            text = render(options.table, options.results, options.format) + "\n"
        if options.out is None:
            sys.stdout.write(text)
        else:
            replace_file(options.out, lambda path: path.write_bytes(text.encode()))
    except ConfigError as error:
        print(f"paper_tables.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        name, done = options.out or options.into or "output", "read or written" if options.into else "written"
        print(f"paper_tables.py: {name} cannot be {done} ({error.strerror})", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
