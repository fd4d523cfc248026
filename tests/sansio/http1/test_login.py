"""Which heads show a login that belongs to the connection."""

import pytest

from tcp_proxy.sansio.http1.fields import read_fields


@pytest.mark.parametrize(
    "block",
    [
        b"WWW-Authenticate: NTLM\r\n",
        b"www-authenticate:ntlm\r\n",
        b"WWW-AUTHENTICATE: Negotiate oYG2MIGz==\r\n",
        b'WWW-Authenticate: Basic realm="a, b", NTLM\r\n',
        b'WWW-Authenticate: Digest realm="a", nonce="x"\r\nWWW-Authenticate: nEgOtIaTe\r\n',
        b"WWW-Authenticate: Negotiate,Basic realm=x\r\n",
        b"WWW-Authenticate: ,,\tNTLM\t,\r\n",
        b"WWW-Authenticate: Kerberos\r\n",
        b"WWW-Authenticate: Nego2 x\r\n",
        b"Proxy-Authenticate: NTLM\r\n",
        b"Proxy-Authenticate: Basic realm=x\r\nProxy-Authenticate: Negotiate\r\n",
        b"Authorization: NTLM TlRMTVNTUAABAAAA\r\n",
        b"authorization:   Negotiate YII=\r\n",
        b"Proxy-Authorization: NTLM x\r\n",
        b'WWW-Authenticate: Basic realm="wanted, NTLM , too"\r\n',  # rather once too often
    ],
)
def test_a_login_of_the_connection(block):
    assert read_fields(block).has_login
    assert read_fields(b"Host: a\r\nConnection: www-authenticate\r\n" + block).has_login


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Host: a\r\n",
        b'WWW-Authenticate: Basic realm="NTLM"\r\n',
        b"WWW-Authenticate: Basic realm=NTLM\r\n",
        b"WWW-Authenticate: Digest realm=x, opaque=Negotiate\r\n",
        b"WWW-Authenticate: NTLMv9\r\n",
        b"WWW-Authenticate: X-NTLM\r\n",
        b"Authorization: Bearer NTLM.Negotiate\r\n",
        b"Authorization: Basic TlRMTQ==\r\n",
        b"X-Note: NTLM\r\n",
        b"Cookie: NTLM\r\n",
    ],
)
def test_a_login_of_the_request_alone(block):
    assert not read_fields(block).has_login
