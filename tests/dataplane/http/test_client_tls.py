"""What is said of a client's certificate; over the whole program in tests/peers/test_tls_programs.py."""

import pytest

from tcp_proxy.dataplane.http.client_tls import over_tls
from tcp_proxy.sansio.http1.forward import Client


class Stream:
    """What is asked of ssl.SSLObject."""

    def __init__(self, whole, found):
        self.whole, self.found = whole, found

    def getpeercert(self, binary_form=False):
        return self.whole if binary_form else self.found


SUBJECT = ((("countryName", "DE"),), (("commonName", "a\r\nX-Spoof: b%,\u00e4"),))


def lines(stream, says=True):
    client = over_tls(Client(b"192.0.2.7", True, True), stream, 8443, says)
    assert (client.ip, client.trusted, client.forwarded) == (b"192.0.2.7", True, True)
    assert (client.proto, client.port) == (b"https", b"8443")
    return client.certificate.split(b"\r\n")


def test_nothing_is_said_where_nobody_has_asked():
    assert lines(Stream(b"der", {}), says=False) == [b""]


def test_a_client_without_one():
    assert lines(Stream(None, None)) == [b"X-Client-Certificate-Verified: none", b""]


def test_no_value_can_be_more_than_one_field():
    found = {"subject": SUBJECT, "subjectAltName": (("DNS", "a.example"), ("IP Address", "192.0.2.1"))}
    verified, subject, names, fingerprint, end = lines(Stream(b"der", found))
    assert verified == b"X-Client-Certificate-Verified: success"
    assert subject == b"X-Client-Certificate-Subject: CN=a%0D%0AX-Spoof: b%25,%C3%A4,C=DE"
    assert names == b"X-Client-Certificate-San: DNS:a.example, IP Address:192.0.2.1"
    assert fingerprint.startswith(b"X-Client-Certificate-Fingerprint: ")
    assert end == b""


@pytest.mark.parametrize("found", [{}, {"subject": ()}])
def test_one_without_names(found):
    assert [line.partition(b":")[0] for line in lines(Stream(b"der", found))] == [
        b"X-Client-Certificate-Verified",
        b"X-Client-Certificate-Fingerprint",
        b"",
    ]
