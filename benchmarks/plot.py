"""The plot: the ratios that docs/performance.md binds, their spreads, and how costs grow. An SVG of its own data only."""

import pathlib
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.measures.base import Measure
from benchmarks.proxies import HAPROXY_ONE, PROJECT
from benchmarks.ratios import ratio, spread, values
from benchmarks.report import GROUPS
from benchmarks.results import Results

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c")
STEP = "cpu@"  # how the figures of costs that grow are called


def draw(measures: Sequence[Measure], results: Results, path: pathlib.Path) -> None:
    growing = [measure for measure in measures if any(figure.key.startswith(STEP) for figure in measure.figures)]
    rows = 1 + (len(growing) + 1) // 2
    canvas = Canvas(figsize=(11, 4.5 + 2.8 * (rows - 1)), layout="constrained")
    grid = canvas.add_gridspec(rows, 2, height_ratios=[1.6] + [1] * (rows - 1))
    draw_ratios(canvas.add_subplot(grid[0, :]), measures, results)
    for number, measure in enumerate(growing):
        draw_growth(canvas.add_subplot(grid[1 + number // 2, number % 2]), measure, results)
    canvas.supxlabel(caption(results), fontsize=7)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bench"}):
        canvas.savefig(path)


def draw_ratios(axes: Axes, measures: Sequence[Measure], results: Results) -> None:
    """One row for each bound figure; the mark is the bound, the bar goes from the least to the greatest pair."""
    bound = [
        (measure, figure, figure.bound)
        for measure in measures
        for figure in measure.figures
        if figure.bound and "@" not in figure.key
    ]
    for number, (group, colour) in enumerate(zip(GROUPS, COLOURS, strict=True)):
        for row, (measure, figure, _) in enumerate(bound):
            rounds = results.measures.get(measure.name, [])
            found = ratio(rounds, group.project.name, group.haproxy.name, figure.key)
            if found:
                height = row + 0.22 * (number - 1)
                axes.plot([found.low, found.high], [height, height], color=colour, linewidth=2, alpha=0.5)
                axes.plot([found.median], [height], "o", color=colour, markersize=4)
        axes.plot([], [], "o-", color=colour, label=group.title or "one worker")
    for row, (_, _, mark) in enumerate(bound):
        axes.plot([mark] * 2, [row - 0.4, row + 0.4], color="black", linewidth=1)
    axes.set_yticks(
        range(len(bound)), [f"{m.title}: {f.title} ({'>' if f.better == 'more' else '<'})" for m, f, _ in bound], fontsize=8
    )
    axes.invert_yaxis()
    axes.set_title("project / HAProxy: median and spread of the pairs; the black mark is to be reached", fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    if bound:
        axes.legend(fontsize=8)


def draw_growth(axes: Axes, measure: Measure, results: Results) -> None:
    """CPU for one unit over the steps."""
    rounds = results.measures.get(measure.name, [])
    figures = [figure for figure in measure.figures if figure.key.startswith(STEP)]
    labels = [figure.title.partition(":")[0] for figure in figures]
    for contender, colour in ((PROJECT, COLOURS[0]), (HAPROXY_ONE, "black")):
        found = [spread(values(rounds, contender.name, figure.key)) for figure in figures]
        axes.plot(
            labels, [each.median if each else float("nan") for each in found], "o-", color=colour, label=contender.name
        )
    if axes.dataLim.ymax > 10 * axes.dataLim.ymin:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(f"{measure.title}: CPU, {figures[0].unit}", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def caption(results: Results) -> str:
    about = results.about
    versions = about["versions"]
    assert isinstance(versions, dict)
    told = ", ".join(f"{name} {versions[name]}" for name in ("python", "haproxy", "nginx"))
    dirty = " and changes" if about["dirty"] else ""
    where = f"Linux {about['kernel']}, {about['cpus']} x {about['cpu']}"
    return f"{about['date']}, commit {str(about['commit'])[:9]}{dirty}, {where}, {told}"
