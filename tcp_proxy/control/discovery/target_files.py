"""Files that list targets: looked at again and again, read when they are others, judged, and reported.

Runs in a thread `target-files` of its own, on its loop, for a disk may hang. A file is to be replaced as a whole (rename);
one that is read half-written is wrong, and is read again when it is whole. What the kernel says of a file tells a change;
links are followed.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from tcp_proxy.config.files import read_file
from tcp_proxy.config.load import ConfigErrors, load_targets
from tcp_proxy.config.model import App
from tcp_proxy.runtime.loop import Loop

logger = logging.getLogger(__name__)

POLL = 1.0  # seconds
STOP_WAIT = 1.0  # seconds for the thread at the end of the program: it may hang, and ends with the process then
MOST_BYTES = 16 << 20

Apps = tuple[App, ...]
Report = Callable[[str, str, str], Any]  # path, text, what is wrong with it


def read_targets(path: str, apps: Apps) -> tuple[str, str]:
    """The text of a file of targets for these apps, and what is wrong with it, as one line."""
    try:
        data = read_file(path, MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            return "", f"this is bigger than {MOST_BYTES} bytes"
        text = data.decode()
        for app in apps:
            load_targets(text, app, path)
    except ConfigErrors as errors:
        more = len(errors.errors) - 1
        return "", f"{errors.errors[0]}{f' (and {more} more)' if more else ''}"
    except OSError as error:
        return "", error.strerror or str(error)
    except ValueError as error:
        return "", str(error)
    return text, ""


class _Files:
    """What one thread looks at. It may hang in a disk when another one has taken its place: `is_over`."""

    def __init__(self, main: Loop, report: Callable[..., Any]) -> None:
        self._main = main
        self._report = report
        self._apps: dict[str, Apps] = {}  # by path
        self._seen: dict[str, object] = {}  # the stamp of what was read last, and for whom
        self.is_over = False

    def __repr__(self) -> str:
        return f"<_Files {', '.join(self._apps)}>"

    def set(self, wanted: dict[str, Apps]) -> None:
        self._apps = wanted
        self._seen = {path: seen for path, seen in self._seen.items() if path in wanted}

    def look(self, loop: Loop) -> None:
        for path, apps in self._apps.items():
            seen = _stamp(path), tuple(map(_judge_of, apps))
            if self._seen.get(path) != seen:
                self._seen[path] = seen
                self._main.call_soon(self._found, path, *read_targets(path, apps))
        loop.call_later(POLL, self.look, loop)

    def _found(self, *what: str) -> None:
        """On the main loop."""
        if not self.is_over:
            self._report(*what)


class TargetFiles:
    """`report(path, text, fault)` is called on the main loop, when there is something new to say."""

    def __init__(self, main: Loop, report: Report) -> None:
        self._main = main
        self._report = report
        self._loop: Loop | None = None
        self._thread: threading.Thread | None = None
        self._files = _Files(main, report)

    def __repr__(self) -> str:
        return f"<TargetFiles {self._files!r}>"

    # -- main thread

    def watch(self, wanted: Mapping[str, Apps]) -> None:
        """These files from now on, and no others, each for its apps. The thread begins with the first and ends with the
        last."""
        if self._loop is None and wanted:
            self._begin()
        if self._loop is not None:
            self._loop.call_soon(self._files.set, dict(wanted))
        if self._loop is not None and not wanted:
            self._files.is_over = True
            self._loop.stop_soon()
            self._loop = self._thread = None

    def stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.stop_soon()
            self._thread.join(STOP_WAIT)

    def _begin(self) -> None:
        loop = Loop("target-files")
        self._files = _Files(self._main, self._report)
        thread = threading.Thread(target=self._serve, args=(loop,), name="target-files", daemon=True)
        loop.call_soon(self._files.look, loop)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads for this user or machine; the next change tries again
            loop.close()
            logger.error("files of targets are not watched: %s", error)  # noqa: TRY400
            return
        self._loop, self._thread = loop, thread

    # -- in the thread

    def _serve(self, loop: Loop) -> None:
        try:
            loop.run()
        finally:
            loop.close()


def _judge_of(app: App) -> object:
    """What of an app its targets are held against."""
    return app.name, app.listeners, app.http, app.health, app.balance


def _stamp(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
