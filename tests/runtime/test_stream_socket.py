"""What stands in the place of a connection's socket has all that a StreamSocket has."""

from socket import SocketType

import pytest

from tcp_proxy.dataplane.relay.tls_socket import TlsSocket
from tcp_proxy.runtime.stream_socket import StreamSocket


@pytest.mark.parametrize("kind", [SocketType, TlsSocket])
def test_it_has_every_method(kind):
    asked = [name for name in vars(StreamSocket) if not name.startswith("_")]
    assert len(asked) > 8
    assert [name for name in asked if not hasattr(kind, name)] == []
