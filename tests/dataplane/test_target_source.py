"""How a target is connected to: as before where nothing has changed, so that kept connections stay in use."""

from tcp_proxy.config.target_model import Source
from tcp_proxy.dataplane.target_source import connect_of


def test_the_same_source_is_the_same_way():
    assert connect_of(None, None) is None
    one = connect_of(Source(("192.0.2.1",)), None)
    assert connect_of(Source(("192.0.2.1",)), one) is one
    assert connect_of(Source(("192.0.2.2",)), one) is not one
    assert connect_of(None, one) is None
