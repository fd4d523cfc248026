"""What a page of the dashboard costs the supervisor and the process of the API, with 1,000 targets and 10,000 sessions.

    python -m benchmarks.dashboard_figures [--targets 1000] [--sessions 10000] [--seconds 30]

A target that is 1,000 addresses of 127.0.0.0/8, a client that holds its sessions, two workers, and a page in Debian's
Chromium (chromium-driver) that shows one view after the other: the share of one CPU that each of the two processes takes
meanwhile, and how long the browser had to think at a time. All that they do is in it, so what a page costs is the
difference to the first line.
"""

import argparse
import contextlib
import json
import pathlib
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from selenium import webdriver

from benchmarks import procfs
from benchmarks.cluster_figures import running, say
from benchmarks.lab import raise_descriptor_limit
from benchmarks.ports import SESSION
from benchmarks.waiting import pause

VIEWS = ("", "app/web", "app/web/target/127.1.0.1%3A{port}", "sessions", "events", "system")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--window-size=1400,2000",
)  # fmt: skip
# Long tasks are those of 50 ms and more, by the browser's own account.
WATCH = """window.longest = 0; new PerformanceObserver(list => {
    for (const one of list.getEntries()) window.longest = Math.max(window.longest, one.duration);
}).observe({type: "longtask", buffered: true})"""


def main() -> int:
    parser = argparse.ArgumentParser(description="What a page of the dashboard costs.")
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--hold", type=int, help="be the target, at this port of every address")
    args = parser.parse_args()
    raise_descriptor_limit()
    if args.hold:
        return _hold(args.hold)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        ports = SESSION.take(3)
        stack.enter_context(running([sys.executable, "-m", __spec__.name, "--hold", str(ports[0])], "listening"))
        path = pathlib.Path(name) / "config.json"
        path.write_text(json.dumps(_config(args.targets, ports)))
        pid = stack.enter_context(running([sys.executable, "-m", "tcp_proxy", str(path)], "ready:"))
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", ports[1]))) for _ in range(args.sessions)]
        for client in clients:
            client.recv(1)
        say(f"{args.targets} targets, {len(clients)} sessions")
        pause(args.seconds / 3)  # what their begin has left to do
        _say(pid, "nobody looks", args.seconds)
        browser = stack.enter_context(_browser(name))
        for view in VIEWS:
            where = view.format(port=ports[0])
            browser.get("about:blank")
            browser.get(f"http://127.0.0.1:{ports[2]}/#/{where}")
            browser.execute_script(WATCH)
            pause(args.seconds / 6)
            opening = browser.execute_script("const found = window.longest; window.longest = 0; return found")
            _say(pid, f"/{where}", args.seconds)
            later = browser.execute_script("return window.longest")
            say(f"    the browser at a time: {opening:.0f} ms to open it, then {later:.0f} ms (0: below 50)")
    return 0


def _config(targets: int, ports: list[int]) -> dict[str, Any]:
    addresses = [f"127.1.{number // 250}.{1 + number % 250}:{ports[0]}" for number in range(targets)]
    app = {"name": "web", "bind": "127.0.0.1", "ports": [ports[1]], "targets": addresses, "health": []}
    return {"workers": 2, "shutdown_grace": 0, "api": {"listen": f"127.0.0.1:{ports[2]}"}, "apps": [app]}


def _say(pid: int, what: str, seconds: int) -> None:
    others = {one: pathlib.Path(f"/proc/{one}/cmdline").read_bytes() for one in procfs.tree(pid)[1:]}
    api = next(one for one, line in others.items() if b"control.api" in line)
    before, start = [procfs.cpu([one]).total for one in (pid, api)], time.perf_counter()
    pause(seconds)
    taken = time.perf_counter() - start
    shares = [100 * (procfs.cpu([one]).total - used) / taken for one, used in zip((pid, api), before, strict=True)]
    say(f"{what}: supervisor {shares[0]:.2f} %, API's process {shares[1]:.2f} % of a CPU")


def _hold(port: int) -> int:
    """A target on all addresses: it says one byte to whoever comes, and keeps him, until it is told to end."""
    held = []
    with socket.create_server(("0.0.0.0", port), backlog=4096) as listening:  # noqa: S104  loopback has many addresses
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        while True:
            held.append(listening.accept()[0])
            held[-1].sendall(b"x")


@contextlib.contextmanager
def _browser(folder: str) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={folder}/chromium"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield browser
    finally:
        browser.quit()


if __name__ == "__main__":
    sys.exit(main())
