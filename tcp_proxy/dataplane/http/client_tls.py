"""What a target is told of a client that speaks TLS: https, the port, and on wish what its certificate says.

Pure but for questions to the client's TlsSocket, which is its connection's; asked once for each client.
"""

import hashlib
from typing import Any, Final
from urllib.parse import quote

from tcp_proxy.dataplane.tls_told import subject
from tcp_proxy.sansio.http1.forward import Client

_SAFE: Final = " !#$&'()*+,-./:;<=>?@[]^_`{|}~"  # beside letters and digits; the rest of a value is written as %XX


def over_tls(client: Client, stream: Any, port: int, says_certificate: bool) -> Client:
    """The same client. `stream`: ssl.SSLObject."""
    certificate = _certificate(stream) if says_certificate else b""
    return Client(client.ip, client.trusted, client.forwarded, b"https", b"%d" % port, certificate)


def _certificate(stream: Any) -> bytes:
    """One that was shown was verified: there would be no connection else."""
    whole = stream.getpeercert(True)
    if not whole:
        return b"X-Client-Certificate-Verified: none\r\n"
    found = stream.getpeercert()
    names = ", ".join(f"{kind}:{value}" for kind, value in found.get("subjectAltName", ()))
    said = {
        "Verified": "success",
        "Subject": subject(found),
        "San": names,
        "Fingerprint": hashlib.sha256(whole).hexdigest(),
    }
    return "".join(
        f"X-Client-Certificate-{name}: {quote(value, _SAFE)}\r\n" for name, value in said.items() if value
    ).encode()
