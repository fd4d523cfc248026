"""Files of certificates that change while the program runs: they are read again, judged, and reported.

Runs in a thread `certificates` of its own, on its loop, for a disk may hang. It looks every POLL seconds at what the kernel
says of each file (links are followed, so a link that leads elsewhere is a change): that works on every file system.

    as it was ──another stamp──> changing ──the same stamp at the next look──> read again
       ^                            ^ │ another one again                        │ right, and different: report(old, new)
       │                            └─┘                                          │ wrong: report(old, why), once
       └─────────────────────────────────────────────────────────────────────────┘

Who writes two files one after another is so not read in between, as a rule; if he is, a key that does not belong to its
certificate is wrong, and the next change of a file has all of them read again.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from tcp_proxy.config.certificates import Fault, again, stamp
from tcp_proxy.config.tls_model import TargetTls, Tls, parts_of, stamps_of
from tcp_proxy.control.tls.trial import client_fault, server_fault
from tcp_proxy.runtime.loop import Loop

logger = logging.getLogger(__name__)

POLL = 1.0  # seconds
STOP_WAIT = 1.0  # seconds for the thread at the end of the program: it may hang, and ends with the process then
MOST = 2000  # files a second that are looked at: some hundredths of a CPU

Value = Tls | TargetTls


class Watched:
    """`read`: the stamps that what was read last had. `seen`: those of the last look."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self.read = self.seen = stamps_of(value)

    def look(self) -> Value | str | None:
        """What the value is to be now, or what is wrong with it; None when there is no news."""
        now = {path: stamp(path) for path in self.read}
        before, self.seen = self.seen, now
        if now == self.read or now != before:
            return None
        self.read = now
        was = stamps_of(self.value)
        try:
            new = again(self.value, {path for path, found in now.items() if found != was[path]})
        except Fault as fault:
            return str(fault)
        if new == self.value:
            return None
        return _fault(new) or new


def _fault(new: Value) -> str:
    return server_fault(new) if isinstance(new, Tls) else client_fault(new)


class FileWatch:
    """`report(old, new)` is called on the main loop: what a value is to be now, or as text what is wrong with its files."""

    def __init__(self, main: Loop, report: Callable[[Value, Value | str], Any]) -> None:
        self._main = main
        self._report = report
        self._loop: Loop | None = None
        self._thread: threading.Thread | None = None
        self._watched: dict[Value, Watched] = {}

    def __repr__(self) -> str:
        return f"<FileWatch of {len(self._watched)} values>"

    # -- main thread

    def watch(self, values: Iterable[Value]) -> None:
        """These from now on, and no others. The thread begins with the first."""
        wanted = [value for value in values if value.watch and parts_of(value)]
        if self._loop is None and wanted:
            self._begin()
        if self._loop is not None:
            self._loop.call_soon(self._set, wanted)

    def _begin(self) -> None:
        loop = Loop("certificates")
        thread = threading.Thread(target=self._serve, args=(loop,), name="certificates", daemon=True)
        loop.call_soon(self._look, loop)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads for this user or machine; the next change tries again
            loop.close()
            logger.error("files of certificates are not watched: %s", error)  # noqa: TRY400
            return
        self._loop, self._thread = loop, thread

    def stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.stop_soon()
            self._thread.join(STOP_WAIT)

    # -- in the thread

    def _serve(self, loop: Loop) -> None:
        try:
            loop.run()
        finally:
            loop.close()

    def _set(self, wanted: list[Value]) -> None:
        self._watched = {value: self._watched.get(value) or Watched(value) for value in wanted}

    def _look(self, loop: Loop) -> None:
        for watched in self._watched.values():
            found = watched.look()
            if found is not None:
                self._main.call_soon(self._report, watched.value, found)
        files = sum(len(watched.read) for watched in self._watched.values())
        loop.call_later(max(POLL, files / MOST), self._look, loop)
