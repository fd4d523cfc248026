"""Which protocols a request may be upgraded to, and whether a 101 names one of them (RFC 9110, 7.8). Pure.

A protocol counts as it is written, with its version, in any letter case.
"""

from collections.abc import Set

from tcp_proxy.sansio.http1.fields import Fields, members


def allowed_upgrades(fields: Fields, allowed: Set[bytes]) -> bytes:
    """Of the protocols of a request's Upgrade those that may be asked for, in their order; empty when there is none."""
    return b", ".join([protocol for protocol in members(fields.values[b"upgrade"]) if protocol.lower() in allowed])


def is_asked_for(answer: Fields, asked: bytes) -> bool:
    """Whether all that a 101 switches to was asked for. It has to name what it switches to."""
    switched = {protocol.lower() for protocol in members(answer.values.get(b"upgrade", []))}
    return bool(switched) and switched <= {protocol.lower() for protocol in members([asked])}
