"""What a run found, with everything needed to judge it later: saved as JSON, read again to compare."""

import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
from dataclasses import dataclass, field

import tcp_proxy
from benchmarks import http_proxies, proxies, tls_proxies
from benchmarks.programs import PACKAGES, version
from benchmarks.ratios import Round, ratio
from benchmarks.settings import Settings

FORMAT = 1


class Unreadable(Exception):
    """A file to compare with is none of ours."""


@dataclass
class Results:
    about: dict[str, object]
    measures: dict[str, list[Round]] = field(default_factory=dict)  # raw values of every round
    failures: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        body = {"format": FORMAT, **dataclasses.asdict(self), "ratios": self.ratios()}
        return json.dumps(body, indent=1)

    def ratios(self) -> list[dict[str, object]]:
        """For readers of the file; computed again from the raw values when it is compared."""
        found: list[dict[str, object]] = []
        for name, rounds in self.measures.items():
            keys = list(dict.fromkeys(key for each in rounds for values in each.values() for key in values))
            for subject, peer in proxies.PAIRS:
                for key in keys:
                    if (one := ratio(rounds, subject.name, peer.name, key)) is not None:
                        pair = {"subject": subject.name, "peer": peer.name}
                        found.append({"measure": name, "figure": key, **pair, **dataclasses.asdict(one)})
        return found


def load(path: pathlib.Path) -> Results:
    try:
        body = json.loads(path.read_text())
        if body["format"] != FORMAT:
            raise Unreadable(f"{path} is of format {body['format']}, this program reads {FORMAT}")
        return Results(body["about"], body["measures"], body["failures"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise Unreadable(f"{path} is not a result of this benchmark: {error!r}") from None


def about(settings: Settings) -> dict[str, object]:
    """Where and with what it is measured."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "versions": {
            "tcp_proxy": tcp_proxy.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "build": tcp_proxy.build(),
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "settings": shown_settings(),
    }


def shown_settings() -> dict[str, str]:
    """The configurations of one worker, with example ports; every service's stanza is like one of the two."""
    ports, targets = {"http": 80, "bulk": 81}, {"http": 8000, "bulk": 8001}
    folder = pathlib.Path("FOLDER")
    return {
        "HAProxy": proxies.haproxy_config(proxies.HAPROXY_ONE, ports, targets),
        "nginx": proxies.nginx_config(proxies.NGINX_ONE, ports, targets, folder),
        "project": json.dumps(proxies.project_config(proxies.PROJECT, ports, targets, folder), indent=2),
        "HAProxy in mode http": http_proxies.HAPROXY,
        "nginx in mode http": http_proxies.NGINX,
        "a stanza of HAProxy with TLS": tls_proxies.HAPROXY_APP,
    }


def _git(*words: str) -> str:
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", *words], cwd=proxies.ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu_model() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
