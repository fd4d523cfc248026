"""The command `top`: sessions, requests, rates and states, live. On a terminal one picture that changes, by rich, and keys;
else a table each time."""

import threading
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from tcp_proxy.ctl.choice import SORTS, Choice
from tcp_proxy.ctl.client import Client, Unreachable
from tcp_proxy.ctl.command import Commands, Result, Results, argument
from tcp_proxy.ctl.rates import Rates
from tcp_proxy.ctl.show import SAID, Table, clean, duration, mark, plural, size, sparkline, table
from tcp_proxy.ctl.statistics import statistics_of
from tcp_proxy.ctl.terminal import Keys

if TYPE_CHECKING:
    from rich.console import RenderableType

View = dict[str, Any]

HEAD = ("app / target", "state", "now", "peak", "new/s", "in/s", "out/s", "failed/s", "new/s lately")
HTTP_HEAD = (
    "app / target", "state", "req/s", "4xx/s", "5xx/s", "p50", "p99", "conns", "retries/s",
    *HEAD[2:-1], "lately",
)  # fmt: skip
NUMBERS = "now peak new/s in/s out/s failed/s req/s 4xx/s 5xx/s p50 p99 conns retries/s"
OPTIONAL = "peak lately retries/s in/s out/s 4xx/s new/s conns p50 failed/s now"  # the first to go where there is no room
COLOURS = {"up": "green", "draining": "yellow", "down": "red"}
SHORT = 0.5  # seconds between two looks for a rate
TOO_SMALL = 4  # lines that are not of the table

commands = Commands()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.05 <= seconds <= 3600:
        raise ArgumentTypeError(f"found {text!r}; wanted seconds, 0.05 to 3600")
    return seconds


INTERVAL = argument("--interval", type=_seconds, default=1.0, metavar="S", help="seconds from look to look (default: 1)")
WATCH = argument("--watch", action="store_true", help="again and again, until q or Ctrl-C"), INTERVAL


@commands.add(
    "top",
    "sessions, requests, rates and states, live, until q or Ctrl-C",
    INTERVAL,
    argument("--count", type=int, default=0, metavar="N", help="end after N looks"),
    argument("--sort", choices=SORTS, default=SORTS[0], help="what comes first (default: as in the file)"),
    argument("--filter", default="", metavar="TEXT", help="apps and targets with this in their name"),
)
def top(api: Client, args: Namespace) -> Results:
    from rich.console import Console  # noqa: PLC0415  no other command needs it

    console, choice = Console(), Choice(args.sort, args.filter)
    if args.json or not console.is_terminal:
        return (Result(frame, _lines(choice.of(frame))) for frame in _paced(api, args))
    return _live(api, args, console, choice)


def short_look(api: Client) -> View:
    """One frame with its rates, in half a second."""
    rates = Rates()
    rates.look(statistics_of(api), time.monotonic())
    threading.Event().wait(SHORT)
    return rates.look(statistics_of(api), time.monotonic())


def looks(api: Client, count: int, lost: Callable[[Unreachable], None] | None = None) -> Iterator[View | None]:
    """One frame after another. A proxy that goes away later is told to `lost`, if there is that, and asked again: None."""
    rates, done = Rates(), 0
    while not count or done < count:
        frame = None
        try:
            frame = rates.look({**statistics_of(api), "overrides": api.get("overrides")}, time.monotonic())
        except Unreachable as error:
            if lost is None or not done:
                raise
            lost(error)
        done += 1
        yield frame


def _paced(api: Client, args: Namespace) -> Iterator[View]:
    with Keys() as keys:
        for number, frame in enumerate(looks(api, args.count), 1):
            assert frame is not None
            yield frame
            if number != args.count and keys.wait(args.interval) == "q":
                return


def _live(api: Client, args: Namespace, console: Any, choice: Choice) -> Generator[Result, None, None]:
    from rich.live import Live  # noqa: PLC0415

    with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        frame: View | None = None

        def show() -> None:
            if frame is not None:
                live.update(draw(choice.of(frame), choice.text(), *console.size), refresh=True)

        for found in looks(api, args.count, lambda error: live.update(str(error), refresh=True)):
            if found is not None:
                frame = found
                show()
                yield Result(frame, ())
            until = time.monotonic() + args.interval
            while (left := until - time.monotonic()) > 0:
                key = keys.wait(left)
                if key and not choice.press(key):
                    return
                if key and found is not None:
                    show()


def draw(frame: View, said: str, width: int, height: int) -> "RenderableType":
    """The picture, for rich."""
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table as Picture  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    head, rows = _table(frame).fitting(width)
    picture = Picture(box=None, pad_edge=False, header_style="bold")
    for name in head:
        picture.add_column(name, justify="right" if name in NUMBERS.split() else "left", no_wrap=True)
    shown = rows[: max(1, height - TOO_SMALL)]
    for row in shown:
        name, state, *rest = row
        picture.add_row(Text(name, "" if state else "bold"), Text(state, COLOURS.get(state.rstrip(SAID), "")), *rest)
    hidden = f"   {len(rows) - len(shown)} more" if len(shown) < len(rows) else ""
    return Group(Text(_title(frame), "bold", no_wrap=True), picture, Text(said + hidden, "dim", no_wrap=True))


def _lines(frame: View) -> "Iterator[str | Table]":
    yield _title(frame)
    yield _table(frame)
    yield ""


def _title(frame: View) -> str:
    died = f", {plural(frame['workers_died'], 'worker')} died" if frame["workers_died"] else ""
    program = frame["program"]
    sessions = f"{plural(program['sessions']['current'], 'session')} now, {program['sessions']['total']} in all"
    asked = [app["requests"]["per_second"] for app in frame["apps"].values() if "requests" in app]
    requests = f", {sum(asked):.1f} requests/s" if asked else ""
    queues = [app["queue"] for app in frame["apps"].values() if "queue" in app]
    waiting = f", {sum(queue['current'] for queue in queues)} waiting" if queues else ""
    traffic = f"in {size(program['bytes_up_per_second'])}/s, out {size(program['bytes_down_per_second'])}/s"
    up = duration(time.time() - frame["started"])
    return f"tcp_proxy {frame['version']}, up {up}: {sessions}{waiting}{requests}, {traffic}{died}"


def _table(frame: View) -> Table:
    is_http = any("requests" in app for app in frame["apps"].values())
    said = {(one["app"], one["target"]) for one in frame["overrides"] if one["key"] != "removed"}
    rows = []
    for name, app in frame["apps"].items():
        rows.append(_row(name, "", app, is_http))
        for target, one in app["targets"].items():
            rows.append(_row(f"  {target}", mark(one["state"], said=(name, target) in said), one, is_http))
    return table(HTTP_HEAD if is_http else HEAD, rows, NUMBERS, optional=OPTIONAL)


def _row(name: str, state: str, one: View, is_http: bool) -> tuple[object, ...]:
    sessions = one["sessions"]
    numbers = (
        sessions["current"], sessions["peak"], f"{one['sessions_per_second']:.1f}", size(one["bytes_up_per_second"]),
        size(one["bytes_down_per_second"]), f"{one['connect_failures_per_second']:.1f}",
    )  # fmt: skip
    asked = _asked(one.get("requests")) if is_http else ()
    return clean(name), state, *asked, *numbers, sparkline(one["history"])


def _asked(requests: View | None) -> tuple[object, ...]:
    if requests is None:
        return ("",) * 7
    per_second, times = requests["statuses_per_second"], requests["seconds"]
    return (
        f"{requests['per_second']:.1f}", f"{per_second['4xx']:.1f}", f"{per_second['5xx']:.1f}",
        *("-" if times[name] is None else duration(times[name]) for name in ("p50", "p99")),
        requests["connections"], f"{requests['retries_per_second']:.1f}",
    )  # fmt: skip
