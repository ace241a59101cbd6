"""What a machine can check of every figure at both widths; each is drawn once, from what is recorded, and not saved."""

import importlib
from functools import cache
from itertools import combinations
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.text import Annotation

from aldsgd.listings import load_experiment, names, write_experiment
from baselines.registry import VARIANTS, look
from figures import compare, primary, style, theory_common
from figures.all import figure_of
from tables.comparison import select
from tests.test_tables import network_row, record

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
THEORY = [path.stem for path in (ROOT / "figures").glob("theory_*.py") if path.stem != "theory_common"] + ["flat"]
#: Curves that leave their panel on purpose: what no longer trains, far below the rest.
CUT = {"own_rates", "field_rates", "leader_rates", "who_leads", "proposal", "leaders", "leaders_cifar10"}
#: One name and different limits on purpose: figures and axes whose panels are of data sets or ranges far apart.
APART = {("own_rates", "mean worker (%)"), ("own_rates", "learning rate"), ("leader_rates", "mean worker (%)"),
         ("leader_rates", "learning rate"), ("final_accuracy", "test accuracy (%)"),
         ("degree_effect", "degree in graph A"), ("field_rates", "mean worker (%)"),
         ("field_rates", "learning rate"), ("faults", "points that the mean honest worker loses"),
         ("losses", "test accuracy (%)"), ("staleness", "test accuracy (%)")}  # fmt: skip


@pytest.fixture(scope="module")
def drawn() -> dict:
    """(name, width) -> figure, laid out, with the boxes of its texts (pixels)."""
    found = {}

    def kept(fig, stem):
        style.tidy(fig)
        fig.draw_without_rendering()
        fig.boxes = [(text, text.get_window_extent()) for text in texts(fig)]
        found[Path(stem).name, fig.get_figwidth()] = fig
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", kept)
        patch.setattr("tables.query.load_experiment", cache(load_experiment))
        pair = [select(RESULTS, f"method={method},dataset=digits,graphs=1") for method in ("dpsgd", "matcha")]
        for width in style.WIDTHS:
            for name in names(RESULTS):
                figure_of(name)(RESULTS, Path(), width)
            for name in THEORY:
                importlib.import_module(f"figures.{name}").draw(RESULTS, Path(), width)
            primary.draw(RESULTS, Path(), width)
            compare.draw_comparison(pair, Path(), width=width)
    assert len(found) >= 2 * 26
    return found


def texts(fig):
    """Every text of a figure that can be seen."""
    found = list(fig.texts)
    for part in [fig, *fig.subfigs]:
        found += [text for legend in part.legends for text in (*legend.get_texts(), legend.get_title())]
    for axes in fig.axes:
        found += [axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            found += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high and tick.label1.get_visible()]
    if fig._suptitle is not None:
        found.append(fig._suptitle)
    seen = {id(text): text for text in found if text.get_text().strip() and text.get_visible()}
    return list(seen.values())


def panels(fig):
    """Axes that show data, without colour bars."""
    return [axes for axes in fig.axes if axes.get_label() != "<colorbar>"]


def test_a_users_names_are_no_formulas(tmp_path):
    """Of data, models, labels and conditions, in titles, ticks, legends and notes."""
    changes = {"dataset": "text:$x^{2$", "model": "my:$\\m$", "lr": 0.1, "message_loss": 0.1, "split": "iid"}
    changes |= {"dirichlet_alpha": 0.5, "graph": "file:$g_$"}
    _, *run = record(tmp_path, "D-PSGD", 0, [network_row(0.5, 0.6, 0.7, 0.0, 0.0)], **changes)
    for name in ("alone", "final_accuracy", "heterogeneous", "judges", "losses", "own_rates", "quickstart", "skew"):
        write_experiment(tmp_path, name, "cpu", [("$odd^{label$", *run)], {"$odd^{label$": "$c^{$"})
        for width in style.WIDTHS:
            assert len(figure_of(name)(tmp_path, tmp_path, width)) == 2


def test_no_text_is_small(drawn):
    small = [(*key, t.get_text()) for key, fig in drawn.items() for t, _ in fig.boxes if t.get_fontsize() < 6.5]
    assert small == []


def test_nothing_stands_outside_the_figure(drawn):
    beyond = []
    for key, fig in drawn.items():
        width, height = fig.bbox.size
        beyond += [(*key, text.get_text()) for text, box in fig.boxes
                   if min(box.x0, box.y0) < -2 or box.x1 > width + 2 or box.y1 > height + 2]  # fmt: skip
    assert beyond == []


def test_no_text_lies_on_another(drawn):
    found = []
    for key, fig in drawn.items():
        for (one, a), (other, b) in combinations(fig.boxes, 2):
            wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            found += [(*key, one.get_text(), other.get_text())] * bool(wide > 1.5 and high > 1.5)
    assert found == []


def test_no_curve_runs_through_a_text(drawn):
    found = []
    for key, fig in drawn.items():
        for axes in fig.axes:
            for text, box in fig.boxes:
                if text not in axes.texts or (isinstance(text, Annotation) and text.xycoords == "data"):
                    continue  # names beside points are near them
                for line in axes.lines:
                    path = line.get_transform().transform_path(line.get_path())
                    through = path.intersects_bbox(box.padded(-1), filled=False)
                    found += [(*key, text.get_text())] * (line.get_linestyle() != "None" and through)
    assert found == []


def test_every_axis_says_what_it_shows(drawn):
    unnamed = [(*key, place, which) for key, fig in drawn.items() for place, axes in enumerate(panels(fig))
               for which in "xy" if not named(axes, which, panels(fig))]  # fmt: skip
    assert unnamed == []


def named(axes, which: str, others) -> bool:
    """Whether an axis says what it shows, by its label or by words at its ticks, or one that it shares does."""
    group = (axes.get_shared_x_axes() if which == "x" else axes.get_shared_y_axes()).get_siblings(axes)
    for other in others:
        axis = other.xaxis if which == "x" else other.yaxis
        words = [label.get_text().replace("mathdefault", "") for label in axis.get_ticklabels()]
        if other in group and (axis.label.get_text() or any(c.isalpha() for word in words for c in word)):
            return True
    return False


def test_equal_names_have_equal_limits(drawn):
    """A unit that panels share is drawn to one scale."""
    apart = set()
    for (name, _), fig in drawn.items():
        for which in "xy":
            limits = {}
            for axes in panels(fig):
                label, own = getattr(axes, f"get_{which}label")(), getattr(axes, f"get_{which}lim")()
                if label and not np.allclose(limits.setdefault(label, own), own):
                    apart.add((name, label.replace("\n", " ")))
    assert {one for one in apart if one not in APART} == set()


def test_no_marker_or_interval_is_cut_off(drawn):
    cut = []
    for (name, width), fig in drawn.items():
        for axes in panels(fig) if name not in CUT else ():
            box, title = axes.bbox, axes.get_title(loc="left")
            for line in axes.lines:
                if line.get_marker() in ("None", "none", None, "") or not in_data(line, axes):
                    continue
                points = line.get_transform().transform(np.column_stack(line.get_data()).astype(float))
                half = fig.dpi / 72 * line.get_markersize() / 2 - 1
                cut += [(name, width, title, "marker")] * beyond(points, box.padded(-half))
            for bars in axes.collections:
                if isinstance(bars, LineCollection) and in_data(bars, axes) and bars.get_paths():
                    ends = bars.get_transform().transform(np.concatenate([p.vertices for p in bars.get_paths()]))
                    cut += [(name, width, title, "interval")] * beyond(ends, box.padded(1))
    assert cut == []


def in_data(artist, axes) -> bool:
    """Whether it is drawn in the coordinates of the data, or a few points beside them."""
    corners = artist.get_transform().transform(np.transpose([axes.get_xlim(), axes.get_ylim()]))
    return np.allclose(np.sort(corners, axis=0), axes.bbox.get_points(), atol=15)


def beyond(points, box) -> bool:
    points = points[np.isfinite(points).all(axis=1)]
    return bool((points < [box.x0, box.y0]).any() or (points > [box.x1, box.y1]).any())


def test_a_method_has_its_colour_everywhere(drawn):
    known = {label: matplotlib.colors.to_hex(look(label).color) for label in VARIANTS}
    for width in style.WIDTHS:
        with style.sheet(width):
            known |= {style.brief(label): color for label, color in known.items()}
    counted = 0
    for key, fig in drawn.items():
        for legend in [legend for part in (fig, *fig.subfigs) for legend in part.legends]:
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
                label = text.get_text().partition(" (")[0] if key[0].startswith("theory") else text.get_text()
                if label in known and handle.get_color() != "0.3":  # grey: a style of lines, whatever their colour
                    counted += 1
                    assert matplotlib.colors.to_hex(handle.get_color()) == known[label], key
    assert counted > 150


def test_what_is_no_method_has_no_colour_of_one():
    looks = {matplotlib.colors.to_hex(look(label).color) for label in VARIANTS}
    assert not looks & {matplotlib.colors.to_hex(c) for c in (*theory_common.COLORS, style.INK, style.ALERT)}
