"""What a record says, as a span of OpenTelemetry: names and attributes follow its semantic conventions for HTTP servers, and
what they have no name for begins with tcp_proxy. Pure.

A path goes without its query, which may hold what is nobody else's business.
"""

from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from tcp_proxy import __version__
from tcp_proxy.wire.records import Record, RequestRecord

# RFC 9110, 9.3 and RFC 5789: another method is one that somebody has made up.
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
# Ends that are nobody's fault.
WELL = frozenset({"done", "idle_timeout", "shutdown", "closed_by_admin"})
SCOPE = InstrumentationScope("tcp_proxy", __version__)

Attributes = dict[str, Any]


def resource(service_name: str, instance: str) -> Resource:
    said = {"service.name": service_name, "service.version": __version__, "service.instance.id": instance}
    return Resource(said)


def span_of(record: Record | RequestRecord, of: Resource) -> ReadableSpan:
    """Raises ValueError for a record that belongs to no trace."""
    if not record.trace:
        raise ValueError("a record without a trace")
    trace, span, parent = record.trace
    begun = record.ended_at - record.seconds
    if isinstance(record, RequestRecord):
        step, seconds = "answer", record.answer_seconds
        name, said, status = _request(record)
    else:
        step, seconds = "connected", record.connect_seconds
        name, said, status = _session(record)
    context = SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    above = SpanContext(int(trace, 16), int(parent, 16), is_remote=True) if parent else None
    return ReadableSpan(
        name=name,
        context=context,
        parent=above,
        resource=of,
        attributes={key: value for key, value in said.items() if value not in ("", None, [])},
        events=[Event(step, timestamp=_nanoseconds(begun + seconds))] if seconds >= 0 else [],
        kind=SpanKind.SERVER,
        status=status,
        start_time=_nanoseconds(begun),
        end_time=_nanoseconds(record.ended_at),
        instrumentation_scope=SCOPE,
    )


def _request(record: RequestRecord) -> tuple[str, Attributes, Status]:
    method, _, rest = str(record.line).partition(" ")
    path, _, version = rest.rpartition(" ")
    known = method if method in METHODS else "_OTHER"
    host, port = _split(str(record.host))
    said = {
        "http.request.method": known,
        "http.request.method_original": method if known != method else "",
        "url.scheme": "https" if record.tls else "http",
        "url.path": path.partition("?")[0],
        "server.address": host,
        "server.port": port,
        "network.protocol.name": "http",
        "network.protocol.version": version.removeprefix("HTTP/"),
        "http.response.status_code": record.status or None,
        "http.request.body.size": record.bytes_up or None,
        "http.response.body.size": record.bytes_down or None,
        "user_agent.original": record.agent,
        **_both(record),
        "tcp_proxy.request.id": record.id,
    }
    failed = record.status >= 500 or not record.status or record.reason not in WELL
    if failed:
        said["error.type"] = str(record.status) if record.status >= 500 else record.reason
    return known if known in METHODS else "HTTP", said, _status(failed, record.error)


def _session(record: Record) -> tuple[str, Attributes, Status]:
    host, port = _split(record.listener)
    failed = record.reason not in WELL
    said = {
        "server.address": host,
        "server.port": port,
        **_both(record),
        "tcp_proxy.session.id": record.id,
        "tcp_proxy.ended_by": record.ended_by,
        "tcp_proxy.bytes_up": record.bytes_up,
        "tcp_proxy.bytes_down": record.bytes_down,
        "error.type": record.errno or record.reason if failed else "",
    }
    return f"session {record.app}", said, _status(failed, record.error or record.reason)


def _both(record: Record | RequestRecord) -> Attributes:
    client, port = _split(record.client)
    peer, peer_port = _split(record.peer or record.client)
    return {
        "client.address": client,
        "client.port": port,
        "network.peer.address": peer,
        "network.peer.port": peer_port,
        "network.transport": "tcp",
        "tls.protocol.version": next(_tls_version(record.tls), ""),
        "tcp_proxy.app": record.app,
        "tcp_proxy.listener": record.listener,
        "tcp_proxy.target": record.target,
        "tcp_proxy.tried": [f"{target}: {error}" for target, error in record.tried],
        "tcp_proxy.reason": record.reason,
        "tcp_proxy.processes": list(record.processes),
    }


def _tls_version(tls: tuple[Any, ...]) -> Iterator[str]:
    """1.3 of TLSv1.3."""
    yield from (str(told).removeprefix("TLSv") for told in tls[:1])


def _split(text: str) -> tuple[str, int | None]:
    """Address and port, as far as there are any."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or (":" in host and not host.endswith("]")):
        return text.strip("[]"), None
    return host.strip("[]"), int(port)


def _status(failed: bool, text: str) -> Status:
    return Status(StatusCode.ERROR, text or None) if failed else Status(StatusCode.UNSET)


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)
