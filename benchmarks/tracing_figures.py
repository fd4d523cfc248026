"""What tracing costs: CPU time for each request of mode http, by process, with tracing off and with each part of the traces.

    python -m benchmarks.tracing_figures [--seconds 5] [--rounds 3] [--sample 0 0.01 1]

nginx as the target, wrk as the load, a collector that takes everything and decodes nothing, on ports of 127.0.0.1; all
ends with the program. The settings are measured in turn, so that whatever else the machine does meets all alike; CPU time
is hardly another one beside others.
"""

import argparse
import contextlib
import http.client
import http.server
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from benchmarks import procfs
from benchmarks.cluster_figures import running, say
from benchmarks.ports import SESSION

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {folder}/body; keepalive_requests 1000000;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello"; }} }}
}}
"""
ROLES = {b"dataplane.worker": "worker", b"trace_exporter": "exporter", b"control.api": ""}


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Nobody reads it."""


def main() -> int:
    parser = argparse.ArgumentParser(description="What tracing costs.")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=float, nargs="*", default=[0.0, 0.01, 1.0])
    args = parser.parse_args()
    settings: list[float | None] = [None, *args.sample]
    found: dict[float | None, list[dict[str, float]]] = {sample: [] for sample in settings}
    with tempfile.TemporaryDirectory() as name, _collector() as endpoint:
        folder, ports = pathlib.Path(name), SESSION.take(3)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=ports[0]))
        with running(["nginx", "-e", "stderr", "-p", name, "-c", f"{name}/nginx.conf"], "start worker process "):
            for _ in range(args.rounds):
                for sample in settings:
                    found[sample].append(_measure(folder, ports, sample, endpoint, args.seconds))
    for sample, rounds in found.items():
        figures = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        words = ", ".join(f"{key} {value:.1f}" for key, value in figures.items())
        say(f"{'off' if sample is None else f'sample {sample:g}'}: {words}")
    return 0


def _measure(folder: pathlib.Path, ports: list[int], sample: float | None, endpoint: str, seconds: int) -> dict[str, float]:
    """Microseconds of CPU for each request, by process; requests in a second; spans that were dropped, in percent."""
    app = {"name": "web", "mode": "http", "bind": "127.0.0.1", "ports": [ports[1]], "targets": [f"127.0.0.1:{ports[0]}"]}
    config = {"workers": 1, "access_log": str(folder / "access.log"), "apps": [{**app, "health": []}]}
    config["api"] = {"listen": f"127.0.0.1:{ports[2]}"}
    if sample is not None:
        config["tracing"] = {"endpoint": endpoint, "sample": sample}
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    with running([sys.executable, "-m", "tcp_proxy", str(path)], "ready:") as pid:
        url = f"http://127.0.0.1:{ports[1]}/"
        subprocess.run(["wrk", "-t1", "-c8", "-d1", url], check=True, stdout=subprocess.DEVNULL)
        before = _cpu(pid)
        done = subprocess.run(["wrk", "-t1", "-c8", f"-d{seconds}", url], check=True, capture_output=True, text=True).stdout
        many = next(int(line.split()[0]) for line in done.splitlines() if "requests in" in line)
        used = {role: after - before.get(role, 0.0) for role, after in _cpu(pid).items()}
        dropped = _dropped(ports[2]) if sample is not None else 0
    figures = {f"{role} us": 1e6 * used.get(role, 0.0) / many for role in ("worker", "supervisor", "exporter")}
    return {**figures, "requests/s": many / seconds, "dropped %": 100 * dropped / max(1.0, many * (sample or 0.0))}


def _cpu(pid: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in procfs.tree(pid):
        line = pathlib.Path(f"/proc/{one}/cmdline").read_bytes()
        role = "supervisor" if one == pid else next((role for part, role in ROLES.items() if part in line), "")
        used = procfs.cpu([one])
        found[role] = found.get(role, 0.0) + used.total
    return found


def _dropped(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/api/v1/statistics")
    return int(json.loads(connection.getresponse().read())["traces"]["dropped"])


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="collector")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    sys.exit(main())
