"""The command `top`: sessions, rates and states, live. On a terminal one picture that changes, by rich; else a table each
time."""

import threading
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from tcp_proxy.ctl.client import Client, Unreachable
from tcp_proxy.ctl.command import Commands, Result, Results, argument
from tcp_proxy.ctl.rates import Rates
from tcp_proxy.ctl.show import clean, duration, size, sparkline, table

if TYPE_CHECKING:
    from rich.console import RenderableType

View = dict[str, Any]
Row = tuple[str, str, int, int, str, str, str, str, str]

HEAD = ("app / target", "state", "now", "peak", "new/s", "in/s", "out/s", "failed/s", "new/s lately")
NUMBERS = "now peak new/s in/s out/s failed/s"
COLOURS = {"up": "green", "draining": "yellow", "down": "red"}

commands = Commands()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.05 <= seconds <= 3600:
        raise ArgumentTypeError(f"found {text!r}; wanted seconds, 0.05 to 3600")
    return seconds


@commands.add(
    "top",
    "sessions, rates and states, live, until Ctrl-C",
    argument("--interval", type=_seconds, default=1.0, metavar="S", help="seconds from look to look (default: 1)"),
    argument("--count", type=int, default=0, metavar="N", help="end after N looks"),
)
def top(api: Client, args: Namespace) -> Results:
    from rich.console import Console  # noqa: PLC0415  no other command needs it

    console = Console()
    if args.json or not console.is_terminal:
        return (Result(frame, _lines(frame)) for frame in looks(api, args.interval, args.count))
    return _live(api, args, console)


def looks(api: Client, interval: float, count: int, lost: Callable[[Unreachable], None] | None = None) -> Iterator[View]:
    """One frame each interval. A proxy that goes away later is told to `lost`, if there is that, and asked again."""
    rates, pause, done = Rates(), threading.Event(), 0
    while True:
        try:
            yield rates.look(api.get("statistics"), time.monotonic())
        except Unreachable as error:
            if lost is None or not done:
                raise
            lost(error)
        done += 1
        if done == count:
            return
        pause.wait(interval)


def _live(api: Client, args: Namespace, console: Any) -> Generator[Result, None, None]:
    from rich.live import Live  # noqa: PLC0415

    with Live(console=console, screen=True, auto_refresh=False) as live:
        for frame in looks(api, args.interval, args.count, lambda error: live.update(str(error), refresh=True)):
            live.update(draw(frame), refresh=True)
            yield Result(frame, ())


def draw(frame: View) -> "RenderableType":
    """The picture, for rich."""
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    picture = Table(box=None, pad_edge=False, header_style="bold")
    for name in HEAD:
        picture.add_column(name, justify="right" if name in NUMBERS.split() else "left", no_wrap=True)
    for row in _rows(frame):
        name, state, *rest = map(str, row)
        style = "" if state else "bold"
        picture.add_row(Text(name, style), Text(state, COLOURS.get(state, "")), *rest)
    return Group(Text(_title(frame), "bold"), "", picture)


def _lines(frame: View) -> Iterator[str]:
    yield _title(frame)
    yield from table(HEAD, _rows(frame), right=NUMBERS)
    yield ""


def _title(frame: View) -> str:
    died = f", {frame['workers_died']} workers died" if frame["workers_died"] else ""
    program = frame["program"]
    sessions = f"{program['sessions']['current']} sessions, {program['sessions']['total']} in all"
    traffic = f"in {size(program['bytes_up_per_second'])}/s, out {size(program['bytes_down_per_second'])}/s"
    return f"tcp_proxy {frame['version']}, up {duration(time.time() - frame['started'])}: {sessions}, {traffic}{died}"


def _rows(frame: View) -> Iterator[Row]:
    for name, app in frame["apps"].items():
        yield _row(clean(name), "", app)
        for target, one in app["targets"].items():
            yield _row(f"  {clean(target)}", one["state"], one)


def _row(name: str, state: str, one: View) -> Row:
    sessions = one["sessions"]
    return (
        name, state, sessions["current"], sessions["peak"], f"{one['sessions_per_second']:.1f}",
        size(one["bytes_up_per_second"]), size(one["bytes_down_per_second"]),
        f"{one['connect_failures_per_second']:.1f}", sparkline(one["history"]),
    )  # fmt: skip
