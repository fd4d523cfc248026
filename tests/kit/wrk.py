"""wrk as load that goes on until told to stop, with every failed request counted.

    with Wrk(port, folder), Wrk(port, folder, kept=False):
        ... something terrible happens ...
                                                    the end of the block fails unless every request was answered well
    with Wrk(port, folder, failures=None) as wrk:   a test that counts them itself: wrk.errors, wrk.requests
        ...
"""

import contextlib
import itertools
import json
import signal
import subprocess

from kit import procfs
from kit.programs import need
from kit.waiting import Deadline, wait_until

LONG = 600  # seconds: longer than any test
TIMEOUT = 15  # seconds for one answer: on a busy machine, a slow one is no failed one
REPORT = """
done = function(summary, latency, requests)
    local e = summary.errors
    io.stderr:write(string.format('{"requests": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}',
        summary.requests, e.connect, e.read, e.write, e.status, e.timeout))
end
"""
_numbers = itertools.count()


class Wrk:
    """`kept`: requests on connections that stay; else each on a connection of its own."""

    def __init__(self, port, folder, kept=True, connections=8, failures=0):
        self.kept, self.port = kept, port
        self.requests = 0
        self.errors = {}
        self._allowed = failures
        script = folder / f"wrk-{next(_numbers)}.lua"
        script.write_text(REPORT)
        header = [] if kept else ["-H", "Connection: close"]
        self._argv = [
            need("wrk"), "-t1", f"-c{connections}", f"-d{LONG}", f"--timeout={TIMEOUT}", *header, "-s", str(script),
            f"http://127.0.0.1:{port}/hello",
        ]  # fmt: skip
        self._process = None

    def __repr__(self):
        return f"<Wrk on {'kept' if self.kept else 'fresh'} connections: {self.requests} requests, {self.errors}>"

    def __enter__(self):
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: procfs.catches_signal(self._process.pid, signal.SIGINT), "wrk can be told to stop")
        return self

    def __exit__(self, kind, *_):
        self.stop()
        if kind is None and self._allowed is not None:
            assert self.failed <= self._allowed, f"{self!r}"
            assert self.requests, f"{self!r}"

    @property
    def failed(self):
        return sum(self.errors.values())

    def stop(self):
        """End it, and know what it counted. Nothing happens the second time."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with process, contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            said = self._end(process)
        self.errors = json.loads(said.splitlines()[-1])
        self.requests = self.errors.pop("requests")

    def _end(self, process):
        """What it reports: it is told as often as it needs, for what it hears just before its sleep begins wakes nobody."""
        deadline = Deadline()
        while True:
            process.send_signal(signal.SIGINT)  # it stops, and reports as if its time were over
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=1)[1]
            assert not deadline.is_over, f"{self!r} does not end"
