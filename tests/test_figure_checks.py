"""What a machine can check of every figure: labels on all axes, nothing outside, one colour for a method."""

from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest

from aldsgd.listings import names
from baselines.registry import VARIANTS, look
from figures import style
from figures.all import figure_of

ROOT = Path(__file__).resolve().parents[1]
#: Curves that leave their panel on purpose: what no longer trains, far below the rest.
CUT = {"own_rates", "field_rates"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict:
    """name -> figure, of every experiment that is recorded; drawn from the committed runs."""
    found, out, save = {}, tmp_path_factory.mktemp("figures"), style.save

    def kept(fig, stem):
        fig.canvas.draw()
        fig.beyond = outside(fig)  # before a file of another resolution is made
        found[Path(stem).name] = fig
        return save(fig, stem)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", kept)
        for name in names(ROOT / "results"):
            figure_of(name)(ROOT / "results", out)
    assert len(found) >= 14
    return found


def panels(fig):
    """Visible axes that show data, without colour bars."""
    return [axes for axes in fig.axes if axes.get_visible() and axes.get_label() != "<colorbar>" and axes.axison]


def shared(axes, which: str):
    group = axes.get_shared_x_axes() if which == "x" else axes.get_shared_y_axes()
    return group.get_siblings(axes)


def named(axes, which: str) -> bool:
    """Whether an axis says what it shows: by its label, by words at its ticks, or by an axis that it shares."""
    for other in shared(axes, which):
        axis = other.xaxis if which == "x" else other.yaxis
        words = [label.get_text() for label in axis.get_ticklabels()]
        if axis.label.get_text() or any(any(c.isalpha() for c in word.replace("mathdefault", "")) for word in words):
            return True
    return False


def test_every_axis_says_what_it_shows(drawn):
    for name, fig in drawn.items():
        for place, axes in enumerate(panels(fig)):
            for which in "xy":
                # In a grid the label may stand on the panel beside or below only.
                if not named(axes, which):
                    same = [other for other in panels(fig) if other is not axes]
                    row, column = axes.get_subplotspec().rowspan, axes.get_subplotspec().colspan
                    beside = [o for o in same if (o.get_subplotspec().rowspan == row if which == "y" else
                              o.get_subplotspec().colspan == column)]  # fmt: skip
                    assert any(named(other, which) for other in beside), (name, place, which)


def outside(fig) -> list[tuple]:
    """Texts of a figure that has just been drawn that reach beyond its edges."""
    width, height = fig.canvas.get_width_height()
    texts = [text for axes in panels(fig) for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)]
    for axes in panels(fig):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [(t.get_text(), t.get_window_extent()) for t in (*texts, *fig.texts) if t.get_text() and t.get_visible()]
    return [(text, box) for text, box in boxes if min(box.x0, box.y0) < -2 or box.x1 > width + 2 or box.y1 > height + 2]


def test_nothing_stands_outside_the_figure(drawn):
    assert {name: fig.beyond for name, fig in drawn.items() if fig.beyond} == {}


def test_no_marker_is_cut_off(drawn):
    for name, fig in drawn.items():
        for axes in panels(fig) if name not in CUT else ():
            (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
            for line in axes.lines:
                if line.get_marker() in ("None", "none", None, "", "|", "_") or line.get_transform() != axes.transData:
                    continue
                x, y = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
                seen = np.isfinite(x) & np.isfinite(y)
                x, y = x[seen], y[seen]
                assert ((x >= left) & (x <= right) & (y >= low) & (y <= high)).all(), (name, axes.get_title())


def test_a_method_has_its_colour_everywhere(drawn):
    known = {label: matplotlib.colors.to_hex(look(label).color) for label in VARIANTS}
    counted = 0
    for name, fig in drawn.items():
        for legend in fig.legends:
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
                if text.get_text() in known:
                    counted += 1
                    assert matplotlib.colors.to_hex(handle.get_color()) == known[text.get_text()], name
    assert counted > 40
