"""SRV records of a real DNS server: what it says, for how long that holds, and what it does not say."""

import subprocess
import sys

import pytest

from kit.dns_server import DnsServer
from kit.ports import free_port
from tcp_proxy.control.discovery import srv
from tcp_proxy.control.discovery.srv import AFTER_FAILURE, LEAST, SrvLookup
from tcp_proxy.sansio.srv import Record


@pytest.fixture
def dns(tmp_path):
    with DnsServer(tmp_path) as dns:
        yield dns


def test_records_and_their_time(dns):
    dns.serve("_db._tcp.example.", ["10 5 5432 db1.example.", "20 0 5433 db2.example."], ttl=77)
    lookup = SrvLookup([("127.0.0.1", dns.port)])
    assert lookup.wait_of("_db._tcp.example") == AFTER_FAILURE
    assert set(lookup("_db._tcp.example")) == {Record(10, 5, 5432, "db1.example"), Record(20, 0, 5433, "db2.example")}
    assert lookup.wait_of("_db._tcp.example") == 77
    assert str(lookup._servers[0][1]) in repr(lookup)


def test_a_time_of_nothing_is_a_second(dns):
    dns.serve("_db._tcp.example.", ["10 5 5432 db1.example."], ttl=0)
    lookup = SrvLookup([("127.0.0.1", dns.port)])
    assert lookup("_db._tcp.example.")
    assert lookup.wait_of("_db._tcp.example.") == LEAST


def test_no_service_is_no_record(dns):
    dns.serve("_db._tcp.example.", ["0 0 0 ."])
    assert SrvLookup([("127.0.0.1", dns.port)])("_db._tcp.example") == ()


def test_a_name_that_is_not_there_is_an_error(dns):
    lookup = SrvLookup([("127.0.0.1", dns.port)])
    with pytest.raises(OSError, match="does not exist"):
        lookup("_no._tcp.example")
    assert lookup.wait_of("_no._tcp.example") == AFTER_FAILURE


def test_a_server_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(srv, "LIFETIME", 0.2)
    with pytest.raises(OSError, match="the DNS says"):
        SrvLookup([("127.0.0.1", free_port())])("_db._tcp.example")


def test_it_is_loaded_only_where_it_is_needed():
    code = "import sys, tcp_proxy.control.supervisor; print([name for name in sys.modules if name.startswith('dns')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
