"""What is told of a client's TLS, in records, lists of sessions and PROXY headers: for people, and for who filters logs.

Questions to the client's TlsSocket, in the thread that owns it; values out. Works in the middle of a handshake and after a
fault too: what is known by then is told.
"""

from typing import Any, Final

Told = tuple[Any, ...]  # version, cipher, whether it was resumed, the name asked for, the certificate's subject, or nothing

_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
}


def told(client: Any) -> Told:
    """`client`: its socket, of whatever kind. Worked out once, when there is a cipher: a client may have many requests."""
    stream = getattr(client, "stream", None)
    if stream is None:
        return ()
    known: Told | None = stream.__dict__.get("told")  # getattr would make an exception, and forget it
    if known is None:
        inner = client.inner
        version = inner.version()
        known = _told(inner, version, name_of(stream))
        if version:  # the handshake is over: nothing of it changes any more
            stream.told = known
    return known


def _told(inner: Any, version: str | None, name: str) -> Told:
    cipher = inner.cipher()
    if cipher is None:
        return ("", "", False, name, "") if name else ()
    # After a fault there is no version any more; the cipher has one.
    return version or cipher[1], cipher[0], bool(inner.session_reused), name, subject_of(inner)


def name_of(stream: Any) -> str:
    """The name that the client has asked for (SNI), or ""."""
    return getattr(stream, "asked_name", None) or ""


def subject_of(stream: Any) -> str:
    """Of the certificate that the client has shown, which was verified: CN=client,O=Example; "" without one."""
    try:
        found = stream.getpeercert()
    except ValueError:  # in its handshake, or after a fault
        return ""
    return subject(found) if found else ""


def subject(found: dict[str, Any]) -> str:
    """`found`: as SSLObject.getpeercert gives it."""
    return ",".join(f"{_SHORT.get(key, key)}={value}" for part in reversed(found.get("subject", ())) for key, value in part)
