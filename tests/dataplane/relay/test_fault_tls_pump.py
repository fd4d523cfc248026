"""A pump with TLS that meets a fault on purpose; test_fault_pump has what both have in common."""

import pytest

from tcp_proxy.dataplane.relay.fault_tls_pump import FaultTlsPump
from tests.dataplane.relay.test_fault_pump import Faulty
from tests.dataplane.relay.test_pump import TLS


class FaultyTls(Faulty):
    pump = FaultTlsPump


@pytest.mark.parametrize("kind", TLS)
def test_all_comes_late_and_the_end_behind_it(kind):
    with FaultyTls(kind, latency=1.0, slow_close=1.0) as rig:
        sent = bytes(range(256)) * 80
        rig.client.sendall(sent)
        rig.turn(10)
        assert rig.arrived() == b""
        rig.client.shutdown(1)
        got = b""
        for _ in range(8):
            rig.pass_time(1.1)
            got += rig.arrived()
        assert got == sent
        assert rig.owner.said == ["done"]
