"""How every figure looks: two widths, a fixed colour and marker per method, reproducible files.

Figures are made without pyplot, so nothing here touches the backend of a notebook that imports it.
"""

import contextlib
import io
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from aldsgd.cache import replace_file
from aldsgd.errors import ConfigError
from baselines.registry import look

PAGE_WIDTH = 7.0  # inches: both columns of a two-column page
COLUMN_WIDTH = 3.5  # one of them
WIDTHS = (PAGE_WIDTH, COLUMN_WIDTH)
WIDTHS_HELP = "width of the figure in inches: a page (default) or one of its two columns"
SMALLEST = 6.5  # points: no text is smaller
FEW = 8  # a curve of more points has its interval shaded
BESIDE = 12  # points over which curves of few points stand beside one another
# Colours of no method: of what is not one, and of what went wrong or was claimed.
INK, ALERT = "0.25", "#C00000"
RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markeredgecolor": "white",
    "lines.markeredgewidth": 0.4,
    "pdf.fonttype": 42,  # TrueType: text in the PDF stays text
    "figure.dpi": 100,
    "savefig.dpi": 300,
}


COLUMN_RC = {
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "legend.fontsize": SMALLEST,
    "lines.linewidth": 1.0,
}


def sheet(width: float = PAGE_WIDTH) -> contextlib.AbstractContextManager:
    """The style sheet of figures this wide (inches); make and save them inside it.

    The user's own matplotlibrc does not count.
    """
    own = COLUMN_RC if width < PAGE_WIDTH else {}
    return matplotlib.style.context(["default", RC | own | {"figure.figsize": (width, width)}])


def narrow() -> bool:
    """Whether the sheet in force is that of a figure in one column."""
    return matplotlib.rcParams["figure.figsize"][0] < PAGE_WIDTH


def empty(height: float) -> Figure:
    """A figure (inches high) without panels that arranges itself."""
    fig = Figure(figsize=(matplotlib.rcParams["figure.figsize"][0], height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def grid(
    rows: int, columns: int, height: float, each: float = 1.5, *, across: int = 1, turned: bool = False,
    sharex: str = "", sharey: str = "", width_ratios: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:  # fmt: skip
    """A figure and its panels, an array (rows, columns).

    On a page they stand like the array, in a figure ``height`` inches high with its title and legend. In a column they
    stand ``across`` beside one another in reading order, or, ``turned``, each row of the array as a column, ``each``
    inches high; title and legend add their own height. sharex, sharey: "all", "row" or "col" of the array.
    """
    places = [(row, column) for row in range(rows) for column in range(columns)]
    where, shape = {place: place for place in places}, (rows, columns)
    if narrow():
        shape = (columns, rows) if turned else (-(-rows * columns // across), across)
        where = {p: p[::-1] if turned else divmod(number, across) for number, p in enumerate(places)}
        width_ratios = None
    fig = empty(shape[0] * each if narrow() else height)
    spec = fig.add_gridspec(*shape, width_ratios=width_ratios)
    panels, first = np.empty((rows, columns), dtype=object), {}
    for row, column in places:
        same = {"all": 0, "row": row, "col": column}
        shared = {
            which: first.get((which, same[how])) for which, how in (("sharex", sharex), ("sharey", sharey)) if how
        }
        panels[row, column] = fig.add_subplot(spec[where[row, column]], **shared)
        for which, how in (("sharex", sharex), ("sharey", sharey)):
            if how:
                first.setdefault((which, same[how]), panels[row, column])
    return fig, panels


def tidy(fig: Figure) -> None:
    """Leave out names and numbers of an axis that the panel below or beside shares; break titles too long for a panel.

    Panels may all be labelled, wherever they stand.
    """
    placed = [(axes, axes.get_subplotspec()) for axes in fig.axes if axes.get_subplotspec() is not None]
    others = [*fig.legends, *fig.texts]
    height = fig.get_figheight() - sum(other.get_window_extent().height for other in others) / fig.dpi
    for axes, spec in placed:
        for other, its in placed:
            if spec.get_gridspec() is not its.get_gridspec():
                continue
            below = its.rowspan.start == spec.rowspan.stop and set(its.colspan) & set(spec.colspan)
            if below and axes.get_shared_x_axes().joined(axes, other):
                axes.set_xlabel("")
                axes.tick_params(labelbottom=False)
            beside = its.colspan.stop == spec.colspan.start and set(its.rowspan) & set(spec.rowspan)
            if beside and axes.get_shared_y_axes().joined(axes, other):
                axes.set_ylabel("")
                axes.tick_params(labelleft=False)
        rows, columns = spec.get_gridspec().get_geometry()
        wide = len(spec.colspan) / columns * fig.get_figwidth() - 0.4  # less the numbers of the axis
        high = len(spec.rowspan) / rows * height - 0.4
        axes.set_title(wrapped(axes.get_title(loc="left"), axes.title.get_fontsize(), wide))
        axes.set_ylabel(wrapped(axes.get_ylabel(), axes.yaxis.label.get_fontsize(), high))
        axes.set_xlabel(wrapped(axes.get_xlabel(), axes.xaxis.label.get_fontsize(), wide))


def wrapped(text: str, size: float, inches: float) -> str:
    """Text in lines of at most about so many inches at this size (points), as few and as equal as can be.

    Lines that it has already are kept where they are short enough.
    """
    letters = max(12, int(inches * 72 / (0.57 * size)))
    shown = re.sub(r"[${}^_]", "", re.sub(r"\\[a-zA-Z]+", "x", text))
    if max(map(len, shown.split("\n"))) <= letters:
        return text
    formulas = re.compile(r"\$[^$]*\$")
    whole = formulas.sub(lambda formula: formula[0].replace(" ", "\xa0"), text.replace("\n", " "))
    options = {"break_on_hyphens": False, "break_long_words": False}
    fewest = len(textwrap.wrap(whole, letters, **options))
    lines = next(found for width in range(letters // 2, letters + 1)
                 if len(found := textwrap.wrap(whole, width, **options)) <= fewest)  # fmt: skip
    return formulas.sub(lambda formula: formula[0].replace("\xa0", " "), "\n".join(lines))


def verbatim(name: str) -> str:
    """A name that a user may have chosen, of which matplotlib takes nothing for a formula."""
    return name.replace("$", r"\$")


def brief(label: str) -> str:
    """How a method is called where there is little room: shorter in a column."""
    label = verbatim(label)
    return label.replace("three graphs", "3 graphs").replace("released schedule", "released") if narrow() else label


def heading(fig: Figure, text: str) -> None:
    """What the whole figure shows, above its panels."""
    size = 7 if narrow() else 7.5
    text = wrapped(" ".join(text.split("\n")) if narrow() else text, size, fig.get_figwidth())
    fig.suptitle(text, fontsize=size)
    if narrow():
        fig.set_figheight(fig.get_figheight() + (text.count("\n") + 1) * 1.2 * size / 72)


def curve(axes: Axes, place: int, label: str, x, mean, low, high, of: int = 1, **other) -> None:
    """One method's curve and its interval; ``place`` counts the methods from 0, there are ``of`` of them; ``other``
    differs from the method's own look.

    A long curve has its interval shaded and about six markers, whose places follow from its own ``place``. A curve of a
    few points has them all with bars, and stands a little beside those of the other methods, which else hide it.
    """
    style = look(label)._asdict() | other
    if len(x) > FEW:
        step = len(x) // 6
        axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(x, mean, **style, markevery=(place % 11 * step // 11, step))
        return
    bars = np.array([np.subtract(mean, low), np.subtract(high, mean)])
    style["markersize"] *= 0.75
    axes.margins(x=0.14 if narrow() else 0.1)
    drawn = axes.errorbar(x, mean, bars, **style, linewidth=0.8, elinewidth=0.7)
    # Afterwards, so that the limits of the axis follow from the data alone.
    shift = BESIDE * (place / (of - 1) - 0.5) if of > 1 else 0
    for artist in drawn.get_children():
        artist.set_transform(axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans))


def epoch_axis(axes: Axes) -> None:
    """A horizontal axis of whole epochs."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))


def accuracy_axis(axes: Axes, label: str) -> None:
    """A vertical axis in percent, stretched towards 100: equal heights are equal ratios of the error.

    Without it the methods, which end a few points apart, lie on one another below a steep start. Set it before
    drawing, so that the limits are found on the stretched axis.
    """
    axes.set_ylabel(label)
    axes.set_yscale(
        "function",
        functions=(lambda accuracy: -np.log10(100 - np.minimum(accuracy, 99.95)), lambda y: 100 - 10.0**-y),
    )
    axes.yaxis.set_major_locator(FixedLocator([0, 20, 40, 60, 70, 80, 85, 90, 93, 95, 97, 98, 99, 99.5, 99.8]))
    axes.yaxis.set_major_formatter("{x:g}")


def plain_log(axes: Axes, which: str = "x", ticks: int = 4) -> None:
    """A logarithmic axis, "x" or "y", with plain numbers, few and short enough to be read: 500, 1k, 20k."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=ticks))
    axis.set_minor_formatter("")
    axis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")


def legend(fig: Figure, labels: Sequence[str], columns: int = 4, note: str = "") -> None:
    """One legend of methods below all panels, in the order of ``labels``, under a note."""
    handles = [Line2D([], [], **look(label)._asdict(), label=brief(label)) for label in labels]
    key(fig, handles, columns, note, handlelength=2 if narrow() else 2.6)


def key(fig: Figure, handles: Sequence[Artist], columns: int = 4, note: str = "", **options) -> None:
    """One legend below all panels, under a note, in at most so many columns, fewer where they would not fit."""
    if narrow():
        options = {"handlelength": 1.6, "columnspacing": 0.8, "handletextpad": 0.5, "borderpad": 0.1} | options
    note = wrapped(note, SMALLEST, fig.get_figwidth() - 0.3)
    for count in range(min(columns, len(handles)), 0, -1):
        if count > -(-len(handles) // -(-len(handles) // count)):  # a column would stay empty, or nearly so
            continue
        made = fig.legend(handles=handles, loc="outside lower center", ncols=count, title=note, title_fontsize=SMALLEST,
                          **{"columnspacing": 1.5} | options)  # fmt: skip
        box = made.get_window_extent()
        if box.width < fig.bbox.width or count == 1:
            break
        made.remove()
    if narrow():
        fig.set_figheight(fig.get_figheight() + box.height / fig.dpi)


def check_out(folder: Path) -> None:
    """Raise ConfigError unless figures can be written into the folder, before the work for them."""
    try:
        replace_file(Path(folder) / ".probe", lambda path: path.touch())
        (Path(folder) / ".probe").unlink()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}): choose another with --out") from None


def save(fig: Figure, stem: Path) -> list[Path]:
    """Tidy, and write ``<stem>.pdf`` and ``<stem>.png``; the same data give the same bytes (no dates, no versions).

    Raises ConfigError if the folder cannot be written.
    """
    tidy(fig)
    written = []
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        path = Path(stem).with_name(Path(stem).name + suffix)
        made = io.BytesIO()  # matplotlib does not survive a full disk in the middle of a PDF
        fig.savefig(made, format=suffix[1:], metadata=metadata)
        try:
            replace_file(path, lambda temporary, made=made: temporary.write_bytes(made.getvalue()))
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error.strerror}): choose another with --out") from None
        written.append(path)
    return written
