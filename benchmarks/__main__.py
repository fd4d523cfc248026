"""`make bench`: measure, save, show.

Exit status: 0 every figure was found, 1 something failed, 2 usage or a missing program, 130 interrupted.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import results as saved
from benchmarks import runner
from benchmarks.compare import print_comparison
from benchmarks.measures.base import Measure
from benchmarks.measures.registry import MEASURES
from benchmarks.plot import draw
from benchmarks.programs import PACKAGES, Failed, Missing, need, stop_what_is_left, use
from benchmarks.report import markdown, print_about, print_table
from benchmarks.settings import Settings, parse
from tcp_proxy import build

OUT = Console(width=None if sys.stdout.isatty() else 170, highlight=False)
ERRORS = Console(stderr=True, highlight=False, soft_wrap=True)
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    settings = parse(sys.argv[1:], list(MEASURES))
    if settings.haproxy:
        use("haproxy", settings.haproxy)
    try:
        need(PACKAGES)
        return measure(settings)
    except (Missing, saved.Unreadable) as error:
        ERRORS.print(f"bench: {error}", markup=False)
        return 2
    except (Failed, TimeoutError) as error:
        ERRORS.print(f"bench: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        stop_what_is_left()
        ERRORS.print("bench: interrupted; everything it started is stopped")
        return 130


def measure(settings: Settings) -> int:
    measures = [found.of(build()) for name, found in MEASURES.items() if not settings.only or name in settings.only]
    earlier = saved.load(settings.compare) if settings.compare else None
    results = saved.Results(saved.about(settings))
    print_about(OUT, results)
    with progress_bar(runner.estimate(measures, settings)) as progress:
        runner.run(measures, settings, results, progress)
    print_table(OUT, measures, results)
    if earlier:
        print_comparison(OUT, measures, earlier, results)
    save(settings, measures, results)
    for failure in results.failures:
        ERRORS.print(f"bench: failed: {failure}", markup=False)
    return 1 if results.failures else 0


@contextlib.contextmanager
def progress_bar(total: float) -> Iterator[runner.Progress]:
    """Drawn on a terminal; elsewhere a line for each measure."""
    columns = (BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=ERRORS, transient=True, refresh_per_second=2) as bar:
        task = bar.add_task("starting", total=total)
        last, measured = 0.0, ""

        def step(what: str, seconds: float) -> None:
            nonlocal last, measured
            bar.update(task, description=what, advance=last)
            last = seconds
            if not ERRORS.is_terminal and (now := what.partition(":")[0]) != measured:
                ERRORS.print(f"bench: {now}")
                measured = now

        yield step


def save(settings: Settings, measures: Sequence[Measure], results: saved.Results) -> None:
    settings.output.mkdir(parents=True, exist_ok=True)
    stem = settings.output / f"bench-{str(results.about['date'])[:19].replace(':', '')}"
    stem.with_suffix(".json").write_text(results.as_json())
    stem.with_suffix(".md").write_text(markdown(measures, results))
    draw(measures, results, stem.with_suffix(".svg"))
    OUT.print(f"saved {stem}.json, .md and .svg")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Once: then everything is stopped, and that takes its time undisturbed."""
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    for end in ENDS:
        signal.signal(end, _interrupt)
    sys.exit(main())
