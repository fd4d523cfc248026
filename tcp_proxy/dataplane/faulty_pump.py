"""The pumps of a session that meets faults on purpose. Loaded with the first such session; the loop's thread only."""

from collections.abc import Sequence
from typing import Any

from tcp_proxy.dataplane.faults import Bandwidth, Fault, note_of, together
from tcp_proxy.dataplane.relay.fault_pump import FaultPump, Spend
from tcp_proxy.dataplane.relay.pump import Pump
from tcp_proxy.dataplane.relay.session_thread import is_plain
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.address import noted, notes_of
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.counters import FAULTED


def faulty_pump(
    faults: Sequence[Fault], loop: Loop, session: Any, source: StreamSocket, dest: StreamSocket, tcp: bool,
    paced: Spend | None,
) -> Pump | None:  # fmt: skip
    """None: none of them is of this direction. The first of a session's two pumps marks it, unless it was one of mode http
    and is marked. `paced`: as it is anyway."""
    note = note_of(faults)
    if session.up is None and not notes_of(session.address).endswith(note):
        session.address = noted(session.address, note)
        session.thread.row[session.app.slot + FAULTED] += 1
    direction = "up" if source is session.client else "down"
    met = [fault for fault in faults if fault.of_direction(direction)]
    if not met:
        return None
    effects, bandwidth = together(met), Bandwidth(met)

    def spend(count: int) -> float:
        wait = paced(count) if paced is not None else 0.0
        return max(wait, bandwidth.spend(count, loop.now))

    resetting = [fault for fault in met if fault.resets(session.number)]

    def reset() -> bool:
        is_wanted = not all(fault.is_over for fault in resetting)
        if is_wanted:
            session.kill(Reason.CLOSED_BY_ADMIN, Side.PROXY)
        return is_wanted

    resets = reset if resetting else None
    if is_plain(source) and is_plain(dest):
        return FaultPump(loop, session, source, dest, tcp, effects, spend, resets)
    from tcp_proxy.dataplane.relay.fault_tls_pump import FaultTlsPump  # noqa: PLC0415  ssl: for the first that needs it

    return FaultTlsPump(loop, session, source, dest, tcp, effects, spend, resets)
