"""The load programs: how each is called, and its answer as figures. Whatever it says of errors is a failure."""

import contextlib
import http.client
import json
import math
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.programs import Failed, find

WAIT_AT_MOST = 30  # seconds beyond the wanted ones
MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}
SOCKPERF_OWN = 2.5  # seconds that sockperf takes for itself, most of them asleep before its test
SHORT_SESSIONS = ("-H", "Connection: close")


@dataclass(frozen=True)
class Requests:
    count: int
    rate: float  # requests/s
    p50: float  # microseconds
    p99: float


@dataclass(frozen=True)
class Bytes:
    count: int
    rate: float  # bytes/s


@dataclass(frozen=True)
class RoundTrips:
    count: int
    p50: float  # microseconds, half a round trip as sockperf counts it
    p99: float


def wrk(
    port: int, seconds: float, clients: int = 50, options: Sequence[str] = (), path: str = "/", scheme: str = "http"
) -> Requests:
    argv = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}", "--timeout", "10", "--latency", *options]
    return parse_wrk(_run([*argv, f"{scheme}://127.0.0.1:{port}{path}"], seconds))


@contextlib.contextmanager
def wrk_beside(port: int, path: str, seconds: float) -> Iterator[None]:
    """One client that asks without pause, for longer than what is measured beside it takes. It has had an answer before."""
    asker = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_AT_MOST)
    asker.request("GET", path)
    asker.getresponse().close()
    asker.close()
    argv = [find("wrk"), "-t1", "-c1", f"-d{math.ceil(seconds) + WAIT_AT_MOST}", "--latency", f"http://127.0.0.1:{port}{path}"]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield
            process.send_signal(signal.SIGINT)
            parse_wrk(process.communicate(timeout=WAIT_AT_MOST)[0])
        finally:
            process.kill()


def parse_wrk(text: str) -> Requests:
    for sign in ("Socket errors", "Non-2xx"):
        if sign in text:
            raise Failed(f"wrk: {next(line.strip() for line in text.splitlines() if sign in line)}")
    count = int(_find(r"(\d+) requests in", text))
    rate = float(_find(r"Requests/sec:\s+([\d.]+)", text))
    if not count:
        raise Failed("wrk: not one request was answered")
    return Requests(count, rate, _percentile(text, 50), _percentile(text, 99))


def _percentile(text: str, percent: int) -> float:
    value, unit = re.fullmatch(r"([\d.]+)([a-z]+)", _find(rf"^\s+{percent}%\s+(\S+)\s*$", text)).groups()  # type: ignore[union-attr]
    return float(value) * MICROSECONDS[unit]


def iperf3_argv(port: int, seconds: float, streams: int = 1) -> list[str]:
    return ["iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", f"{seconds:g}", "-P", str(streams), "-J"]


def iperf3(port: int, seconds: float, streams: int = 1) -> Bytes:
    return parse_iperf3(_run(iperf3_argv(port, seconds, streams), seconds))


class Beside:
    """An iperf3 that runs while something else is measured."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._output = ""

    def wait(self) -> None:
        """It ends by itself."""
        try:
            self._output, _ = self._process.communicate(timeout=WAIT_AT_MOST)
        except subprocess.TimeoutExpired:
            raise Failed(f"iperf3: no end after {WAIT_AT_MOST} s") from None

    def result(self) -> Bytes:
        return parse_iperf3(self._output)


@contextlib.contextmanager
def iperf3_beside(port: int, seconds: float) -> Iterator[Beside]:
    """It outlasts the sockperf that is measured beside it; its result is there after the block."""
    argv = iperf3_argv(port, seconds + SOCKPERF_OWN + 1.5)
    with subprocess.Popen(
        [find(argv[0]), *argv[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield (beside := Beside(process))
            if process.poll() is not None:
                raise Failed("iperf3 ended before what was to be measured beside it")
            beside.wait()
        finally:
            process.kill()


def parse_iperf3(text: str) -> Bytes:
    try:
        told = json.loads(text)
    except ValueError:
        raise Failed(f"iperf3: no JSON but {text[:200]!r}") from None
    if "error" in told:
        raise Failed(f"iperf3: {told['error']}")
    received = told["end"]["sum_received"]
    if not received["bytes"]:
        raise Failed("iperf3: not one byte arrived")
    return Bytes(received["bytes"], received["bits_per_second"] / 8)


def sockperf(port: int, seconds: float, size: int = 64) -> RoundTrips:
    argv = ["sockperf", "ping-pong", "--tcp", "-i", "127.0.0.1", "-p", str(port), "-m", str(size), "-t", f"{seconds:g}"]
    return parse_sockperf(_run(argv, seconds))


def parse_sockperf(text: str) -> RoundTrips:
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    for line in text.splitlines():
        if "ERROR" in line:
            raise Failed(f"sockperf: {line.strip()}")
    lost = [int(number) for number in re.findall(r"# (?:dropped|duplicated|out-of-order) messages = (\d+)", text)]
    if any(lost):
        raise Failed(f"sockperf: messages dropped, duplicated, out of order: {lost}")
    count = int(_find(r"Total (\d+) observations", text))
    p50, p99 = (float(_find(rf"percentile {percent}\.000\s*=\s*([\d.]+)", text)) for percent in (50, 99))
    return RoundTrips(count, p50, p99)


def pinger(port: int, seconds: float, size: int) -> int:
    """How many messages went there and back."""
    argv = [sys.executable, "-m", "benchmarks.helpers.pinger", str(port), str(size), f"{seconds:g}"]
    count = int(json.loads(_run(argv, seconds))["messages"])
    if not count:
        raise Failed("pinger: not one message came back")
    return count


def strangers(port: int, seconds: float, first: int) -> tuple[float, float]:
    """The medians for clients of new addresses, and for the same ones when they come again, in microseconds."""
    argv = [sys.executable, "-m", "benchmarks.helpers.strangers", str(port), f"{seconds:g}", str(first)]
    told = json.loads(_run(argv, seconds))
    if not told["new"]:
        raise Failed("strangers: not one was served")
    return statistics.median(told["new"]) * 1e6, statistics.median(told["known"]) * 1e6


def tls_clients(port: int, seconds: float, clients: int) -> tuple[int, float]:
    """How many connections there were, and how many a second."""
    return _together("tls_client", clients, seconds, str(port), f"{seconds:g}")


def tls_bulk(port: int, seconds: float, streams: int, what: str) -> Bytes:
    """`what`: the clients get or put."""
    return Bytes(*_together("tls_bulk", streams, seconds, str(port), f"{seconds:g}", what))


def _together(helper: str, count: int, seconds: float, *words: str) -> tuple[int, float]:
    """So many processes of it, which begin together once all are ready: what they have counted, in all and a second."""
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(count):
            argv = [sys.executable, "-m", f"benchmarks.helpers.{helper}", *words]
            pipe = subprocess.PIPE
            process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
            started.append(stack.enter_context(process))
            stack.callback(process.kill)
        for process in started:
            assert process.stdout
            process.stdout.readline()
        told = []
        for process in started:
            with contextlib.suppress(BrokenPipeError):
                assert process.stdin
                process.stdin.write("go\n")
                process.stdin.flush()
        for process in started:
            try:
                out, errors = process.communicate(timeout=seconds + WAIT_AT_MOST)
            except subprocess.TimeoutExpired:
                raise Failed(f"{helper}: no end after {seconds + WAIT_AT_MOST:g} s") from None
            if process.returncode:
                raise Failed(f"{helper} ended with status {process.returncode}: {(errors.splitlines() or ['no word'])[-1]}")
            told.append(json.loads(out))
    moved = sum(each["count"] for each in told)
    if not moved:
        raise Failed(f"{helper}: not one was served")
    return moved, moved / max(each["seconds"] for each in told)


def _run(argv: list[str], seconds: float) -> str:
    """Its output. A status other than 0 is a failure, unless the output itself says more."""
    path = argv[0] if argv[0] == sys.executable else find(argv[0])
    try:
        done = subprocess.run(
            [path, *argv[1:]],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=seconds + WAIT_AT_MOST,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{argv[0]}: no end after {seconds + WAIT_AT_MOST:g} s") from None
    if done.returncode and not done.stdout.lstrip().startswith("{"):
        last = (done.stderr + done.stdout).strip().splitlines()[-1:] or ["no word"]
        raise Failed(f"{argv[0]} ended with status {done.returncode}: {last[0]}")
    return done.stdout


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise Failed(f"nothing like {pattern!r} in {text[-300:]!r}")
    return match[1]
