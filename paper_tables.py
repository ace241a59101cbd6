"""Every table of this repository, built from the store of runs alone (torch is never imported).

    python paper_tables.py                                      every table whose experiment has been run
    python paper_tables.py --table quickstart --format latex --out quickstart.tex
    python paper_tables.py --claims                             writes CLAIMS.md
    python paper_tables.py --into README.md                     renews the tables and numbers between a text's marks

A table is found by its experiment's name: ``tables.experiments`` has those that need one of their own.
"""

import math
import os
import re
import sys
from pathlib import Path

import pandas as pd

from aldsgd.cache import replace_file
from aldsgd.errors import ConfigError
from aldsgd.listings import names
from aldsgd.statistics import Interval
from experiments.options import Parser
from tables import claims
from tables.base import Cell, Estimate, Table, escaped
from tables.experiments import TABLES
from tables.named import table
from tables.prose import NUMBER, Numbers


def to_markdown(table: Table) -> str:
    lines = [escaped(line) for line in table.text]
    width = [max(map(len, column)) for column in zip(*lines, strict=True)]
    # Labels to the left, everything else to the right, as numbers are read.
    rule = ["-" * width[0], *("-" * (w - 1) + ":" for w in width[1:])]
    padded = [[line[0].ljust(width[0]), *map(str.rjust, line[1:], width[1:])] for line in lines]
    return "\n".join([table.caption, "", *("| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]])])


def to_latex(table: Table) -> str:
    """A ``table*`` for two-column pages; needs the booktabs package."""
    head, *body = table.text
    lines = [" & ".join(map(latex, line)) + r" \\" for line in [head, *body]]
    return "\n".join(
        [
            r"\begin{table*}", r"\centering", rf"\caption{{{latex(table.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", lines[0], r"\midrule", *lines[1:],
            r"\bottomrule", r"\end{tabular}", r"\end{table*}",
        ]
    )  # fmt: skip


#: What LaTeX does not print as it stands -> what does.
LATEX = {
    "||X - JX||²/n": r"$\|X-JX\|^2/n$", "10⁶": "$10^6$", "±": r"$\pm$", "²": "$^2$", "⁶": "$^6$",
    **{character: rf"\{character}" for character in "%&_#${}"},
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "|": r"\textbar{}",
    "<": r"\textless{}", ">": r"\textgreater{}", '"': r"\textquotedbl{}", "[": "{[}",  # an option of the \\ before it
}  # fmt: skip
#: The same, the sign of a number, and a hyphen before another, which would make a dash.
IN_LATEX = re.compile("|".join([*map(re.escape, LATEX), r"(?P<sign>(?<!\w)-(?=\d))", "-(?=-)"]))


def latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return IN_LATEX.sub(lambda found: LATEX.get(found[0], "$-$" if found["sign"] else "-{}"), text)


def to_csv(table: Table) -> str:
    """Comma-separated numbers below one comment line with the caption: ``pandas.read_csv(f, comment="#")``.

    An interval has the columns mean, low, high and n, blank where nothing was measured; text beside it has its own.
    """
    columns: dict[str, list] = {}
    for name, cells in table.rows.items():
        values = [cell.value if isinstance(cell, Cell) else cell for cell in cells]
        if any(isinstance(cell, Estimate) for cell in cells):
            for part in ("mean", "low", "high", "n"):
                columns[f"{name}, {part}"] = [written(getattr(value, part, None)) for value in values]
            values = [None if isinstance(value, Interval) else value for value in values]
            if not any(values):
                continue
        columns[name] = list(map(written, values))
    # An integer column with blanks must not become one of floats.
    text = pd.DataFrame(columns, dtype=object).to_csv(index=False, lineterminator="\n")
    return f"# {table.caption}\n{text}".rstrip("\n")


def written(value):
    """A value of a CSV: blank where there is none, nan where training diverged or one seed has no interval."""
    return "nan" if isinstance(value, float) and math.isnan(value) else value


FORMATS = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv}
#: Option -> those that it leaves nothing to do.
WITHOUT = {"into": ("out", "claims", "table", "format"), "claims": ("table", "format")}


def render(name: str, root: Path | str = "results", layout: str = "markdown") -> str:
    """The named table, or "all" whose experiment has been run, as text in one of ``FORMATS``.

    Raises ConfigError, naming the command to run, when runs are missing.
    """
    found = [name]
    if name == "all":
        listed = names(root)
        found = [known for known in TABLES if known in listed] + [own for own in listed if own not in TABLES]
    return "\n\n".join(FORMATS[layout](table(each, root)) for each in found)


def renew(text: str, root: Path | str = "results") -> str:
    """``text`` with every table between ``<!-- table: NAME -->`` and ``<!-- end -->`` made anew, and every number
    between ``<!-- = NAME -->`` and ``<!-- / -->`` (``tables.prose``).

    Raises ConfigError for an unknown table or number, as ``render`` does, and where the text has no such mark.
    """
    numbers = Numbers(root)

    def made(mark: re.Match) -> str:
        return f"<!-- table: {mark[1]} -->\n{render(mark[1], root)}\n<!-- end -->"

    text, count = re.subn(r"<!-- table: (\S+) -->\n.*?<!-- end -->", made, text, flags=re.DOTALL)
    text, more = NUMBER.subn(lambda mark: f"<!-- = {mark[1]} -->{numbers.text(mark[1])}<!-- / -->", text)
    if not count + more:
        raise ConfigError("the text has no table to renew; mark one with <!-- table: NAME --> and <!-- end -->")
    return text


def check_out(out: Path) -> None:
    """Raise OSError or ConfigError unless ``out`` can be written, before the work for it."""
    if out.exists() and not out.is_file():
        raise ConfigError(f"{out} is no file: give --out another name")
    replace_file(out.with_name(f".{out.name}.probe"), lambda path: path.touch())
    out.with_name(f".{out.name}.probe").unlink()


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description="Print the tables made from the recorded runs.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the runs (default: results)")
    parser.add_argument("--table", help="experiment whose table to print (default: all that exist)")
    parser.add_argument("--format", choices=list(FORMATS), help="how to print it (default: markdown)")
    parser.add_argument("--out", type=Path, help="file to write instead of the standard output")
    parser.add_argument(
        "--claims", action="store_true", default=None, help="write the list of the paper's claims (CLAIMS.md) instead"
    )
    parser.add_argument("--into", type=Path, metavar="FILE", help="renew tables and numbers between the marks of FILE")
    out = options = None
    try:
        options = parser.parse_args(arguments)
        for name, others in WITHOUT.items():
            for other in others:
                if None not in (getattr(options, name), getattr(options, other)):
                    raise ConfigError(f"--{other} has no effect with --{name}; leave one of them out")
        out = options.into or options.out or (Path("CLAIMS.md") if options.claims else None)
        if out is not None:
            check_out(out)
        if options.into:
            text = renew(options.into.read_text(encoding="utf-8"), options.results)
        elif options.claims:
            names(options.results)  # refuses a mistyped folder, of which nothing would be measured
            text = claims.render(options.results)
        else:
            named = "all" if options.table is None else options.table
            text = render(named, options.results, options.format or "markdown") + "\n"
        if out is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            replace_file(out, lambda path: path.write_bytes(text.encode()))
    except ConfigError as error:
        print(f"paper_tables.py: {error}", file=sys.stderr)
        return 2
    except UnicodeError as error:
        text = f"{out} is not UTF-8 text: convert it" if options.into else f"{error.encoding} has no ±: use --out FILE"
        print(f"paper_tables.py: {text}", file=sys.stderr)
        return 2
    except OSError as error:
        done = "read or written" if options.into else "written"
        print(f"paper_tables.py: {out or 'output'} cannot be {done} ({error.strerror})", file=sys.stderr)
        if out is None:  # what is left in the buffer would be reported again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
