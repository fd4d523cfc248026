"""The pumps of a session that meets a fault on purpose. Loaded with the first such session; the loop's thread only."""

from socket import SocketType
from typing import Any

from tcp_proxy.dataplane.faults import Fault
from tcp_proxy.dataplane.relay.fault_pump import FaultPump, Spend
from tcp_proxy.dataplane.relay.pump import Pump
from tcp_proxy.dataplane.relay.session_thread import is_plain
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import noted, notes_of
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.sansio.token_bucket import SECOND, TokenBucket
from tcp_proxy.wire.counters import FAULTED


def faulty_pump(
    fault: Fault, loop: Loop, session: Any, source: SocketType, dest: SocketType, tcp: bool, paced: Spend | None
) -> Pump | None:
    """None: the fault is not of this direction. The first of a session's two pumps marks it, unless it was one of mode http
    and is marked. `paced`: as it is anyway."""
    view, is_down = fault.view, source is not session.client
    note = f"fault {view.number}: {view.text}"
    if session.up is None and not notes_of(session.address).endswith(note):
        session.address = noted(session.address, note)
        session.thread.row[session.app.slot + FAULTED] += 1
    if view.direction == ("up" if is_down else "down"):
        return None
    bucket, full_at = TokenBucket(view.bandwidth) if view.bandwidth else None, 0

    def spend(count: int) -> float:
        nonlocal full_at
        wait = paced(count) if paced is not None else 0.0
        if bucket is not None and not fault.is_over:
            full_at, due = bucket.spend(full_at, int(loop.now * SECOND), count)
            wait = max(wait, due / SECOND)
        return wait

    def reset() -> None:
        session.kill(Reason.CLOSED_BY_ADMIN, Side.PROXY)

    resets = reset if fault.resets(session.number) else None
    if is_plain(source) and is_plain(dest):
        return FaultPump(loop, session, source, dest, tcp, fault, spend, resets)
    from tcp_proxy.dataplane.relay.fault_tls_pump import FaultTlsPump  # noqa: PLC0415  ssl: for the first that needs it

    return FaultTlsPump(loop, session, source, dest, tcp, fault, spend, resets)
