"""Dialogues with servers whose protocol is packets: MQTT, LDAP, DNS over TCP.

Pure. None logs in as anybody.
"""

from tcp_proxy.sansio.dialogue import Dialogue, Inbox, Refused, Reply
from tcp_proxy.sansio.escapes import escaped

# -- MQTT 3.1.1

_MQTT_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"  # a clean session without a name: nothing is kept of it
_MQTT_CONNACK = 0x20
_MQTT_UNAVAILABLE = {3: "server unavailable", 0x88: "server unavailable", 0x89: "server busy", 0x97: "quota exceeded"}


def mqtt(_user: str) -> Dialogue:
    """Who turns us away by name, password or version of the protocol (MQTT 5 alone) works."""
    packet = yield from Inbox().take(lambda data: 2 + data[1] if len(data) > 1 else 0, _MQTT_CONNECT)
    if packet[0] != _MQTT_CONNACK or len(packet) < 4:
        raise Refused(f"answered {escaped(packet)}, which is not MQTT")
    code = packet[3]
    if code in _MQTT_UNAVAILABLE:
        raise Refused(f"answered {_MQTT_UNAVAILABLE[code]} (code {code})")
    return Reply(f"answered with code {code}", b"" if code else b"\xe0\x00")


# -- LDAP (RFC 4511)

_LDAP_BIND = b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00"  # version 3, nobody, no password
_LDAP_UNBIND = b"\x30\x05\x02\x01\x02\x42\x00"
_LDAP_SEQUENCE, _LDAP_INTEGER, _LDAP_BIND_RESPONSE, _LDAP_ENUMERATED = 0x30, 0x02, 0x61, 0x0A
# success; and that it wants another kind of login than none, or TLS: a server that works says that
_LDAP_HEALTHY = {0, 7, 8, 13, 48, 49, 50}


def ldap(_user: str) -> Dialogue:
    message = yield from Inbox().take(_ber_size, _LDAP_BIND)
    code = _bind_result(message)
    if code is None:
        raise Refused(f"answered {escaped(message)}, which is not LDAP's answer")
    if code not in _LDAP_HEALTHY:
        raise Refused(f"answered with result code {code}")
    return Reply(f"answered with result code {code}", _LDAP_UNBIND)


def _bind_result(message: bytes) -> int | None:
    """The result code of a BindResponse."""
    at = 0
    for tag in (_LDAP_SEQUENCE, _LDAP_INTEGER, _LDAP_BIND_RESPONSE, _LDAP_ENUMERATED):
        if message[at : at + 1] != bytes([tag]) or not (header := _ber_header(message[at:])):
            return None
        start = at + header[0]
        at = start + header[1] if tag == _LDAP_INTEGER else start
    return message[at] if at < len(message) else None


def _ber_header(data: bytes | bytearray) -> tuple[int, int] | None:
    """How long a BER header is, and what comes after it; None for one that has not come or is too long for us."""
    if len(data) < 2:
        return None
    if data[1] < 0x80:
        return 2, data[1]
    size = data[1] & 0x7F
    if not size or len(data) < 2 + size:
        return None
    return 2 + size, int.from_bytes(data[2 : 2 + size], "big")


def _ber_size(data: bytearray) -> int:
    """Of the message that begins here; what cannot be one is all there is."""
    if data and (data[0] != _LDAP_SEQUENCE or (len(data) > 1 and data[1] > 0x84)):
        return len(data)
    header = _ber_header(data)
    return sum(header) if header else 0


# -- DNS (RFC 1035, RFC 7766)

_DNS_ID = b"tp"
# One question, without recursion: the name servers of the root.
_DNS_QUESTION = b"\x00\x11" + _DNS_ID + b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + b"\x00\x00\x02\x00\x01"
_DNS_NAMES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
_DNS_HEALTHY = {0, 3, 5, 9}  # REFUSED, NOTAUTH: it serves other zones


def dns(_user: str) -> Dialogue:
    """Asked without recursion: whether other servers can be reached is another question."""
    message = yield from Inbox().take(_dns_size, _DNS_QUESTION)
    if len(message) < 14 or message[2:4] != _DNS_ID or not message[4] & 0x80:
        raise Refused(f"answered {escaped(message[:40])}, which is not DNS's answer")
    code = message[5] & 0x0F
    text = f"answered {_DNS_NAMES[code] if code < len(_DNS_NAMES) else f'RCODE {code}'}"
    if code not in _DNS_HEALTHY:
        raise Refused(text)
    return Reply(text)


def _dns_size(data: bytearray) -> int:
    return 2 + int.from_bytes(data[:2], "big") if len(data) > 1 else 0
