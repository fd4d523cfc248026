"""The place where it all happens: one temporary folder, the targets, the proxies; nothing of it outlives `with Lab()`."""

import contextlib
import os
import pathlib
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Literal

from benchmarks import http_proxies, sticky_proxies, tls_proxies
from benchmarks.ports import SESSION
from benchmarks.programs import Program, find
from benchmarks.proxies import ROOT, Contender, Proxy, descriptor_limit

NGINX = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 8192; multi_accept on; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {folder};
        location = /mib {{ }}
        location / {{ return 200 "hello from nginx\\n"; }}
    }}
}}
"""
Mode = Literal["tcp", "http", "sticky", "tls"]
TCP = ("http", "bulk", "ping", "echo", "blocks", "greet")  # the targets of mode tcp, each behind a listener
SERVICES = (*TCP, "flood", "added")  # the last is the target that a reload brings
MODES: dict[Mode, tuple[tuple[str, ...], Mapping[str, Any] | None]] = {  # which of them, and who writes configurations
    "tcp": (TCP, None),
    "http": (("http",), http_proxies.WRITERS),
    "sticky": (("greet", "api"), sticky_proxies.WRITERS),
    "tls": (("http", "flood", "greet"), tls_proxies.WRITERS),
}


def raise_descriptor_limit() -> None:
    """For the load programs, which have theirs from us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Lab:
    """Targets are started with the Lab, proxies when they are asked for."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._proxies = contextlib.ExitStack()
        self._kept: dict[tuple[Contender, Mode], Proxy] = {}
        self._folders = 0
        self.targets: dict[str, int] = {}  # their ports
        self.servers: dict[str, Program] = {}
        self.self_reports: list[str] = []  # warnings and errors of our own proxy: there should be none

    def __enter__(self) -> "Lab":
        raise_descriptor_limit()
        with self._stack:  # an error on the way stops what has been started
            self.folder = pathlib.Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tcp-proxy-bench-")))
            self._start_targets()
            self._stack.enter_context(self._proxies)  # the first to be closed
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def proxy(self, contender: Contender, mode: Mode = "tcp") -> Proxy:
        """One that runs until release()."""
        key = (contender, mode)
        if key not in self._kept:
            self._kept[key] = self._proxies.enter_context(self.fresh(contender, mode))
        self._kept[key].check()
        return self._kept[key]

    def release(self) -> None:
        self._kept.clear()
        self._proxies.close()

    @contextlib.contextmanager
    def fresh(self, contender: Contender, mode: Mode = "tcp") -> Iterator[Proxy]:
        """One of its own, that has served nobody yet."""
        with self.starting(contender, mode) as proxy:
            proxy.wait_listening()
            yield proxy

    @contextlib.contextmanager
    def starting(self, contender: Contender, mode: Mode = "tcp") -> Iterator[Proxy]:
        """One that may not be ready yet."""
        services, writers = MODES[mode]
        proxy = Proxy(contender, {name: self.targets.get(name, 0) for name in services}, self.new_folder(), writers)
        with self.watching(proxy, contender):
            yield proxy

    @contextlib.contextmanager
    def watching(self, proxy: Program, contender: Contender) -> Iterator[None]:
        """It ends with this; what our own says of itself is noted."""
        try:
            yield
        finally:
            proxy.stop()
            if contender.kind == "project" and proxy.log.stat().st_size:
                self.self_reports.append(f"{contender.name} says: {proxy.last_words()}")

    def new_folder(self) -> pathlib.Path:
        self._folders += 1
        folder = self.folder / str(self._folders)
        folder.mkdir()
        return folder

    def _start_targets(self) -> None:
        self.targets = dict(zip(SERVICES, SESSION.take(len(SERVICES)), strict=True))
        for name, port in self.targets.items():
            program = Program(self._argv(name, port), self.new_folder(), [port], {**os.environ, "PYTHONPATH": str(ROOT)})
            self._stack.callback(program.stop)
            program.wait_listening()
            self.servers[name] = program

    def _argv(self, name: str, port: int) -> list[object]:
        if name == "http":
            folder = self.new_folder()
            config = folder / "nginx.conf"
            (folder / "mib").write_bytes(bytes(1 << 20))
            config.write_text(NGINX.format(port=port, folder=folder, descriptors=descriptor_limit()))
            user = "user root;" if os.geteuid() == 0 else ""
            return [find("nginx"), "-p", folder, "-e", folder / "error.log", "-g", user, "-c", config]
        if name == "bulk":
            return [find("iperf3"), "-s", "-B", "127.0.0.1", "-p", port]
        if name == "ping":
            return [find("sockperf"), "server", "--tcp", "-i", "127.0.0.1", "-p", port]
        helper = {"greet": "greeter", "added": "greeter", "flood": "flood"}.get(name, "echo")
        return [sys.executable, "-m", f"benchmarks.helpers.{helper}", port, *(["+"] if name == "added" else [])]
