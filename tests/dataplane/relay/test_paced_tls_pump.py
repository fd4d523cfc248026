"""A pump with TLS that is slowed down: the contract, and that it waits. test_paced_pump has what both have in common."""

import pytest

from tcp_proxy.dataplane.relay.paced_pump import LEAST_CHUNK
from tcp_proxy.dataplane.relay.paced_tls_pump import PacedTlsPump
from tests.dataplane.relay.test_paced_pump import Paced
from tests.dataplane.relay.test_pump import TLS


class PacedTls(Paced):
    def make(self, _kind, source, dest, tcp):
        return PacedTlsPump(self.loop, self.owner, source, dest, tcp, self.rate, self.spend)


@pytest.mark.parametrize("kind", TLS)
def test_all_comes_in_time_and_the_end_behind_it(kind):
    with PacedTls(kind) as rig:
        sent = bytes(range(256)) * 80
        rig.client.sendall(sent)
        rig.turn(10)
        assert max(rig.told) <= 4 * LEAST_CHUNK
        assert sum(rig.told) < len(sent)
        rig.client.shutdown(1)
        got = b""
        for _ in range(30):
            rig.pass_time(1.0)
            try:
                got += rig.target.recv(1 << 16)
            except BlockingIOError:
                pass
        assert got == sent
        assert rig.owner.said == ["done"]
