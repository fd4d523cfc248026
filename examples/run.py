"""What `make run` does: an echo server for each local target of a configuration, the proxy, and what to type.

    python examples/run.py config.json [--dead ADDRESS]...

A target named by --dead gets no server, so that one can watch the proxy do without it. Everything ends together: on
Ctrl-C, when the proxy ends (or cannot start), and when this program is killed the echo servers notice by their input.
"""

import argparse
import contextlib
import ipaddress
import os
import pathlib
import select
import signal
import subprocess
import sys

from tcp_proxy.config.load import ConfigErrors, load_file
from tcp_proxy.config.model import Config

ECHO = pathlib.Path(__file__).with_name("echo.py")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    parser = argparse.ArgumentParser(description="Try the proxy: echo targets and the proxy on one configuration.")
    parser.add_argument("config", nargs="?", default="config.json")
    parser.add_argument("--dead", action="append", default=[], metavar="ADDRESS", help="a target that gets no server")
    args = parser.parse_args()
    try:
        config = load_file(args.config)
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return 2
    signals = catch_signals()
    echoes: list[subprocess.Popen[str]] = []
    try:
        addresses = local_targets(config)
        for address in addresses:
            if address not in args.dead and not start_echo(address, echoes):
                return 1
        explain(config, [address for address in addresses if address in args.dead])
        return _run_proxy(args.config, echoes, signals)
    finally:
        end(echoes)


def catch_signals() -> int:
    """Every signal becomes a byte to read from this descriptor; nothing is interrupted half-way."""
    read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write_fd)
    for number in SIGNALS:
        signal.signal(number, lambda _number, _frame: None)
    return read_fd


def local_targets(config: Config) -> list[str]:
    """The addresses of the targets on this machine, once each."""
    found: dict[str, None] = {}
    for app in config.apps:
        for target in app.targets:
            address = target.address
            with contextlib.suppress(ValueError):
                if address.port and ipaddress.ip_address(address.host).is_loopback:
                    found[str(address)] = None
    return list(found)


def here(path: str | pathlib.Path) -> str:
    """As one types it in this folder: the Python of the virtual environment too, for there may be no other."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def explain(config: Config, dead: list[str]) -> None:
    ask = f"{here(sys.executable)} {here(ECHO)} ask"
    print('\nWhen the proxy below says "ready", type in another terminal:\n')
    for app in config.apps:
        print(f"    {ask} {app.listeners[0]}     # app {app.name}, {len(app.targets)} targets")
    print("\nEach line that comes back says which target answered (nc shows it too: nc 127.0.0.1 PORT).")
    if config.api is not None and config.api.listen.port:
        api = str(config.api.listen).replace("*", "127.0.0.1")
        print(f"\nThe dashboard: http://{api}/     Its orders on a terminal:\n")
        print(f"    {here(sys.executable)} -m tcp_proxy.ctl --api {api} status     # or top, or --help for all\n")
    for address in dead:
        print(f"Nothing listens on {address}: see how its app does without.")
    print("Ctrl-C here stops everything; a second Ctrl-C ends at once what still waits for its clients.\n", flush=True)


def start_echo(address: str, echoes: list[subprocess.Popen[str]]) -> bool:
    """Start one and wait until it listens; False: it has said why it cannot."""
    command = [sys.executable, str(ECHO), "serve", address]
    echo = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0)
    echoes.append(echo)
    assert echo.stdout is not None
    return echo.stdout.readline() == "listening\n"


def _run_proxy(path: str, echoes: list[subprocess.Popen[str]], signals: int) -> int:
    """Its exit status. In a process group of its own, so that a Ctrl-C reaches it once: from here."""
    proxy = subprocess.Popen([sys.executable, "-m", "tcp_proxy", path], stdin=subprocess.DEVNULL, process_group=0)
    ended = os.pidfd_open(proxy.pid)
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while ended not in dict(poll.poll()):
        os.read(signals, 64)
        proxy.terminate()  # the second time it ends at once
        end(echoes)  # which ends the sessions that the proxy would wait for
    os.close(ended)
    return proxy.wait()


def end(echoes: list[subprocess.Popen[str]]) -> None:
    """They end with their input."""
    for echo in echoes:
        if echo.stdin is not None:
            echo.stdin.close()
    for echo in echoes:
        echo.wait()


if __name__ == "__main__":
    sys.exit(main())
