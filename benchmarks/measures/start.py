"""How long it takes from exec to the first byte that a target sends through the proxy."""

import socket

from benchmarks.lab import Lab
from benchmarks.measures.base import Figure, Measure, Sample
from benchmarks.programs import Failed
from benchmarks.proxies import HAPROXY_ONE, NGINX_ONE, PROJECT, Contender
from benchmarks.waiting import now, pause

WAIT_AT_MOST = 20.0  # seconds
BETWEEN = 0.001  # seconds between two attempts to connect


def measure(lab: Lab, contender: Contender, _seconds: int) -> Sample:
    with lab.starting(contender) as proxy:
        while not first_byte(proxy.port["greet"]):
            proxy.check()
            if now() - proxy.started > WAIT_AT_MOST:
                raise Failed(f"{proxy!r} does not serve after {WAIT_AT_MOST:g} s")
            pause(BETWEEN)
        return {"start": now() - proxy.started}


def first_byte(port: int) -> bytes:
    """Nothing while nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_AT_MOST) as sock:
            return sock.recv(1)
    except ConnectionError:
        return b""


START = Measure(
    name="start",
    title="start",
    figures=(Figure("start", "exec to first byte", "s", "less", limit=0.15),),
    run=measure,
    contenders=(PROJECT, HAPROXY_ONE, NGINX_ONE),
    cost=0.0,
)
