"""The configurations of mode http are accepted by those they are for."""

import pytest

from benchmarks.http_proxies import WRITERS
from benchmarks.proxies import EVERYBODY
from kit.programs import need, run
from tcp_proxy.config.load import load_file

PORTS, TARGETS = {"http": 11001}, {"http": 12001}


@pytest.mark.parametrize("contender", EVERYBODY, ids=lambda c: c.name)
def test_each_is_accepted(contender, tmp_path):
    need({"project": "nginx"}.get(contender.kind, contender.kind))
    argv, _ = WRITERS[contender.kind](contender, PORTS, TARGETS, tmp_path)
    if contender.kind == "project":
        config = load_file(str(argv[-1]))
        assert config.apps[0].http is not None
        assert (config.workers, bool(config.access_log)) == (contender.workers, contender.access_log)
    elif contender.kind == "haproxy":
        run("haproxy", "-c", "-f", argv[-1])
    else:
        run(argv[0], "-t", *argv[1:])
