"""How long a take-over keeps a session waiting, and how long all of them take to move.

    python -m benchmarks.upgrade_pause [--sessions 1000] [--idle 9000] [--rounds 5] [--every 100]

Each of `--sessions` hears the time from its target every `--every` ms; how late that comes at the most is its pause. It is
looked at over a second without a take-over, and over one with. `--idle` more say nothing. In a take-over all of them move
from two workers to two others; that has ended when the old workers have. All is on ports of 127.0.0.1.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.lab import raise_descriptor_limit
from benchmarks.ports import SESSION
from benchmarks.programs import Failed, Program
from benchmarks.proxies import ROOT
from benchmarks.upgrade_proof import Line
from benchmarks.waiting import pause


class Listener:
    """benchmarks.helpers.ticks, which hears."""

    def __init__(self, port: int, sessions: int) -> None:
        pipe = subprocess.PIPE
        argv = [sys.executable, "-m", "benchmarks.helpers.ticks", "hear", str(port), str(sessions)]
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        self._answer()

    def look(self) -> dict[str, float]:
        """Since the last look."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.communicate()


def main() -> int:
    parser = argparse.ArgumentParser(description="How long a take-over keeps a session waiting.")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--idle", type=int, default=9000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=100, help="ms")
    args = parser.parse_args()
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="tcp-proxy-pause-") as name, contextlib.ExitStack() as stack:
        folder, ports = pathlib.Path(name), SESSION.take(5)
        targets = {"ticks": ports[0], "idle": ports[1]}
        commands = {"ticks": ["helpers.ticks", "serve", ports[0], args.every], "idle": ["helpers.greeter", ports[1]]}
        for app, (module, *words) in commands.items():
            argv = [sys.executable, "-m", f"benchmarks.{module}", *words]
            program = Program(argv, folder, [targets[app]], {**os.environ, "PYTHONPATH": str(ROOT)})
            stack.callback(program.stop)
            program.wait_listening()
        line = Line(folder, _config(targets, ports[2:]))
        stack.callback(line.kill)
        listener = Listener(ports[2], args.sessions)
        stack.callback(listener.close)
        _hold_idle(stack, ports[3], args.idle)
        for _ in range(args.rounds):
            listener.look()
            pause(1)
            without = listener.look()
            line.upgrade()
            line.wait_old_workers()
            moved = time.time() - _taken_over(line.log)
            pause(1)
            with_one, load = listener.look(), os.getloadavg()[0]
            say(f"late by p99 {_ms(with_one)} ms, without a take-over p99 {_ms(without)} ms")
            say(f"    {args.sessions + args.idle} sessions have moved in {moved:.2f} s, load {load:.1f}")
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _ms(found: dict[str, float]) -> str:
    return f"{found['p99']:.0f} (p50 {found['p50']:.0f}, at most {found['most']:.0f})"


def _taken_over(log: pathlib.Path) -> float:
    """When the last one did, by the wall clock."""
    lines = [line for line in log.read_text().splitlines() if "taken over from" in line]
    return datetime.datetime.fromisoformat(lines[-1].split()[0]).timestamp()


def _hold_idle(stack: contextlib.ExitStack, port: int, count: int) -> None:
    pipe = subprocess.PIPE
    argv = [sys.executable, "-m", "benchmarks.helpers.idle_clients", str(port)]
    process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
    stack.callback(process.communicate)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    if process.stdout.readline().strip() != str(count):
        raise Failed("the idle clients have ended")


def _config(targets: dict[str, int], ports: list[int]) -> dict[str, Any]:
    apps = [
        {"name": name, "bind": "127.0.0.1", "ports": [port], "targets": [f"127.0.0.1:{target}"], "health": []}
        for (name, target), port in zip(targets.items(), ports, strict=False)
    ]
    return {"workers": 2, "pid_file": "proxy.pid", "api": {"listen": f"127.0.0.1:{ports[2]}"}, "apps": apps}


if __name__ == "__main__":
    sys.exit(main())
