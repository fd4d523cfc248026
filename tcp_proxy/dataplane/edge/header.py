"""The stages of the PROXY protocol: the header of a client that may send one, and of one that may not.

Owned by the loop's thread. One object for all clients of an app: a stage keeps nothing of a client.

A sender that speaks for itself (LOCAL) is a health check mostly, which goes as soon as it is connected, and is no session.
But it may go on as any client (HAProxy's check over http does, and a client of its UNIX sockets): then it is a session
with the sender's own address. It is one as soon as it says something, and after a moment of silence, for the servers that
speak first.
"""

from typing import Final

from tcp_proxy.dataplane.edge.arrival import HEADER, LOCAL, Arrival, EdgeState, NoSession, Refused
from tcp_proxy.dataplane.proxy_header import PASSED_ON
from tcp_proxy.sansio.address import Restored
from tcp_proxy.sansio.proxyproto import HOPS, MOST_HOPS, Malformed, NoHeader, hops_of, notes, read
from tcp_proxy.sansio.reasons import Refusal

QUIET: Final = 0.1  # seconds


class HeaderStage:
    """Of a client whose header is believed. `required`: one without is refused."""

    state: EdgeState = HEADER

    def __init__(self, required: bool, max_size: int) -> None:
        self._required = required
        self._max_size = max_size

    def __repr__(self) -> str:
        return f"<HeaderStage {'required' if self._required else 'optional'}>"

    def seconds(self, arrival: Arrival) -> float:
        return arrival.app.timeouts.first_bytes

    def look(self, arrival: Arrival) -> bool:
        first = arrival.first
        try:
            header = read(first, self._max_size)
        except Malformed as error:
            raise Refused(str(error), Refusal.PROXY_MALFORMED) from None
        except NoHeader:
            if self._required:
                raise Refused("it began without a PROXY header", Refusal.PROXY_MISSING) from None
            return True
        if header is None:
            return arrival.is_ended and not self._required
        if header.tlvs and hops_of(header.tlvs) >= MOST_HOPS:
            text = f"it has come by {MOST_HOPS} proxies of this kind (TLV hops): they lead to each other"
            raise Refused(text, Refusal.PROXY_MALFORMED)
        arrival.first = first[header.size :]
        if header.is_local:
            arrival.then(LOCAL_STAGE)
        elif header.source is not None and header.destination is not None:
            tlvs = tuple(one for one in header.tlvs if one[0] in PASSED_ON or one[0] == HOPS) if header.tlvs else ()
            arrival.address = Restored(*header.source, arrival.peer, header.destination, tlvs, notes(header.tlvs))
        return True

    def expire(self, arrival: Arrival) -> bool:
        if self._required:
            begun = "the whole of its" if arrival.first else "its"
            text = f"{begun} PROXY header did not come within {arrival.app.timeouts.first_bytes:g} s"
            raise Refused(text, Refusal.PROXY_LATE)
        return True


class LocalStage:
    """A sender's own connection."""

    state: EdgeState = LOCAL

    def seconds(self, _arrival: Arrival) -> float:
        return QUIET

    def look(self, arrival: Arrival) -> bool:
        if arrival.is_ended and not arrival.first:
            raise NoSession
        return bool(arrival.first)

    def expire(self, _arrival: Arrival) -> bool:
        return True


class DirectStage:
    """Of a client that is no sender of headers, and is served as one without; a header of its is never believed.

    What it says is waited for only a moment: the target may be the one to speak first."""

    state: EdgeState = HEADER

    def seconds(self, _arrival: Arrival) -> float:
        return QUIET

    def look(self, arrival: Arrival) -> bool:
        try:
            header = read(arrival.first)
        except NoHeader:
            return True
        except Malformed:
            pass
        else:
            if header is None and not arrival.first.startswith((b"PROXY ", b"\r\n\r\n\0")):
                return arrival.is_ended
        raise Refused("it sent a PROXY header, and is not one of those that may", Refusal.PROXY_UNTRUSTED)

    def expire(self, _arrival: Arrival) -> bool:
        return True


class ClosedStage:
    """Of a client that is no sender of headers, where only those may come."""

    state: EdgeState = HEADER

    def seconds(self, _arrival: Arrival) -> float:
        return 0.0

    def look(self, _arrival: Arrival) -> bool:
        text = "only those that send PROXY headers may come, and it is not one of them"
        raise Refused(text, Refusal.PROXY_UNTRUSTED)

    def expire(self, _arrival: Arrival) -> bool:
        return True


LOCAL_STAGE: Final = LocalStage()
