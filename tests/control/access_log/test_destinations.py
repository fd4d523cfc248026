"""What a place for lines is opened as; what a file does with them is in test_writer.py."""

import pytest

from tcp_proxy.control.access_log.destinations import FileDestination, open_destination
from tcp_proxy.control.access_log.syslog import SyslogDestination


def test_what_it_is(tmp_path, capfd):
    kinds = {str(tmp_path / "log"): FileDestination, "-": FileDestination, "syslog+udp://192.0.2.9:1": SyslogDestination}
    for text, kind in kinds.items():
        found = open_destination(text)
        assert type(found) is kind
        if text != "syslog+udp://192.0.2.9:1":
            assert found.append(b"a line\n", False, 1.0) == (0, None)
        found.close()
    assert (tmp_path / "log").read_bytes() == b"a line\n"
    assert "a line\n" in capfd.readouterr().out


def test_what_cannot_be_opened_is_an_error(tmp_path):
    with pytest.raises(IsADirectoryError):
        open_destination(str(tmp_path))
