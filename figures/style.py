"""How every figure looks: one type size, a fixed colour and marker per method, reproducible files.

Figures are made without pyplot, so nothing here touches the backend of a notebook that imports it.
"""

import contextlib
import io
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from aldsgd.cache import replace_file
from aldsgd.errors import ConfigError
from baselines.registry import look

PAGE_WIDTH = 7.0  # inches: both columns of a two-column page
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


def sheet() -> contextlib.AbstractContextManager:
    """The style sheet; make and save figures inside it. The user's own matplotlibrc does not count."""
    return matplotlib.style.context(["default", RC])


def figure(columns: int, height: float, width: float = PAGE_WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure (inches) with a row of panels that arranges itself."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig, list(fig.subplots(1, columns, squeeze=False)[0])


def curve(axes: Axes, place: int, label: str, x, mean, low, high) -> None:
    """One method's curve with its interval shaded and about six markers, whose places follow from its own ``place``."""
    style = look(label)._asdict()
    step = max(1, len(x) // 6)
    first = place % 11 * step // 11
    axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.plot(x, mean, **style, markevery=(first, step))


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


def legend(fig: Figure, labels: list[str], columns: int = 4) -> None:
    """One legend below all panels, in the order of ``labels``."""
    handles = [Line2D([], [], **look(label)._asdict(), label=label) for label in labels]
    fig.legend(handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.5, handlelength=2.6)


def check_out(folder: Path) -> None:
    """Raise ConfigError unless figures can be written into the folder, before the work for them."""
    try:
        replace_file(Path(folder) / ".probe", lambda path: path.touch())
        (Path(folder) / ".probe").unlink()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}): choose another with --out") from None


def save(fig: Figure, stem: Path) -> list[Path]:
    """Write ``<stem>.pdf`` and ``<stem>.png``; the same data give the same bytes (no dates, no versions).

    Raises ConfigError if the folder cannot be written.
    """
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
