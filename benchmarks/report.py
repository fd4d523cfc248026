"""The table for the terminal, and the same in Markdown for docs/performance.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import proxies
from benchmarks.measures.base import Figure, Measure
from benchmarks.proxies import Contender
from benchmarks.ratios import Spread, is_reached, ratio, spread, values
from benchmarks.results import Results

COLUMNS = ("figure", "unit", "project", "HAProxy", "nginx", "/ HAProxy", "to reach", "/ nginx")


@dataclass(frozen=True)
class Group:
    """Those that stand in one row."""

    title: str
    project: Contender
    haproxy: Contender
    nginx: Contender


GROUPS = (
    Group("", proxies.PROJECT, proxies.HAPROXY_ONE, proxies.NGINX_ONE),
    Group("access log on", proxies.PROJECT_LOG, proxies.HAPROXY_ONE, proxies.NGINX_ONE),
    Group("two workers", proxies.PROJECT_TWO, proxies.HAPROXY_TWO, proxies.NGINX_TWO),
)


def sections(measures: Sequence[Measure], results: Results) -> Iterator[tuple[str, list[list[str]]]]:
    """(title, rows) for each measure and group that has values of the project."""
    for measure in measures:
        for group in GROUPS:
            rows = [row for figure in measure.figures if (row := _row(measure, group, figure, results))]
            if rows:
                yield f"{measure.title}{', ' if group.title else ''}{group.title}", rows


def _row(measure: Measure, group: Group, figure: Figure, results: Results) -> list[str]:
    rounds = results.measures.get(measure.name, [])
    members = (group.project, group.haproxy, group.nginx)
    found = [spread(values(rounds, member.name, figure.key)) for member in members]
    if found[0] is None:
        return []
    beside = [ratio(rounds, group.project.name, peer.name, figure.key) for peer in members[1:]]
    to_reach = _judged(figure, found[0], beside[0])
    medians = [number(each.median) if each else "" for each in found]
    return [figure.title, figure.unit, *medians, shown(beside[0]), to_reach, shown(beside[1])]


def _judged(figure: Figure, own: Spread, beside: Spread | None) -> str:
    """The bound of the design, and whether it is reached."""
    if figure.limit is not None:
        bound, value = figure.limit, own.median
    elif figure.bound is not None and beside is not None:
        bound, value = figure.bound, round(beside.median, 2)
    else:
        return ""
    sign = ">=" if figure.better == "more" else "<="
    return f"{sign} {bound:g} {'reached' if is_reached(value, bound, figure.better) else 'not reached'}"


def shown(found: Spread | None) -> str:
    """The median, and from where to where the rounds went if there were several."""
    if found is None:
        return ""
    return f"{found.median:.2f}" + (f" ({found.low:.2f}-{found.high:.2f})" if found.low < found.high else "")


def number(value: float) -> str:
    """Three digits or all that stand before the point, in groups."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def print_table(console: Console, measures: Sequence[Measure], results: Results) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="medians of the rounds; ratios: the median of the pairs (least-greatest)")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in COLUMNS[2:5] else "left", no_wrap=name == "figure")
    for title, rows in sections(measures, results):
        table.add_row(f"[bold]{title}[/bold]")
        for row in rows:
            table.add_row(*row[:6], _coloured(row[6]), row[7])
        table.add_section()
    console.print(table)


def _coloured(judgement: str) -> str:
    colour = "red" if "not reached" in judgement else "green"
    return f"[{colour}]{judgement}[/{colour}]" if judgement else ""


def print_about(console: Console, results: Results) -> None:
    """Everything that a reader needs to judge the figures, the settings of all proxies included."""
    for name, told in results.about.items():
        if isinstance(told, dict) and name == "settings":
            for proxy, text in told.items():
                console.print(f"\n[bold]settings of {proxy}[/bold]")
                console.print(text.rstrip(), markup=False)
        else:
            console.print(
                f"{name}: {', '.join(map(' '.join, told.items())) if isinstance(told, dict) else told}", markup=False
            )


def markdown(measures: Sequence[Measure], results: Results) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for title, rows in sections(measures, results):
        lines.append(f"| **{title}** |{' |' * (len(COLUMNS) - 1)}")
        lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"
