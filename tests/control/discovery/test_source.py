"""What is shown of a source of targets."""

from tcp_proxy.control.discovery.source import SourceState


def test_all_of_it_is_shown():
    assert SourceState("srv:_a._tcp.b", ("web",), 3).as_dict() == {
        "source": "srv:_a._tcp.b", "apps": ("web",), "targets": 3, "changes": 0, "failures": 0, "error": "",
        "is_answered": False,
    }  # fmt: skip
