"""Recorded runs side by side: a table of paired differences with intervals, and a figure. Nothing is trained.

Command:  python -m experiments.compare method=dpsgd,dataset=digits method=aldsgd,dataset=digits,core=dpsgd,graphs=1
          python -m experiments.compare 0123456789ab mine@my_results --at bytes --out my_figures
Names:    a run's key (its other seeds come along), fields of configurations, or a folder of results, alone or with
          fields (FOLDER:method=dpsgd); NAME@ before it is what it is called. The first one is what others are compared
          with.
"""

from pathlib import Path

from experiments.command import Session, command
from experiments.options import Parser


def main(session: Session) -> None:
    import argparse

    import paper_tables
    from figures import style
    from figures.compare import draw_comparison
    from tables.comparison import AXES, compared, select

    p = Parser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", metavar="RUNS", help="two selections of runs or more, named as above")
    p.add_argument("--at", choices=tuple(AXES), default="epochs", help="what is made equal (default: epochs)")
    p.add_argument("--metric", help="metric to compare (default: the first that the runs have)")
    p.add_argument("--results", type=Path, default=Path("results"), help="folder of the runs (default: results)")
    p.add_argument("--format", choices=tuple(paper_tables.FORMATS), default="markdown", help="how the table is printed")
    p.add_argument("--out", type=Path, help="folder for the figure (default: none is drawn)")
    p.add_argument("--width", type=float, default=style.PAGE_WIDTH, choices=style.WIDTHS, help=style.WIDTHS_HELP)
    options = p.parse_args()
    if options.out is not None:
        style.check_out(options.out)
    selections = [select(options.results, text) for text in options.runs]
    print(paper_tables.FORMATS[options.format](compared(selections, options.at, options.metric)))
    what = options.at, options.metric, options.width
    for path in draw_comparison(selections, options.out, *what) if options.out else ():
        print(path)


if __name__ == "__main__":
    command(main)
