"""`limits` of an app, as far as it is about sessions and clients: what fits the schema, and what contradicts itself.

Pure; the supervisor's process only. What a request of mode http may have stands in the same object and is in config.http.
"""

from collections.abc import Collection

from tcp_proxy.config.model import SessionLimits, Target
from tcp_proxy.config.positions import Path
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain, given_of

OF_CLIENTS = ("sessions_per_client", "rate_per_client", "bytes_per_second_per_client")


def build_limits(app: Plain, path: Path, targets: Collection[Target], report: Report) -> SessionLimits:
    plain: Plain = app.get("limits") or {}
    limits = SessionLimits(**given_of(SessionLimits, plain))
    if limits.queue and targets and not limits.sessions and not any(one.max_connections for one in targets):
        text = 'nobody would wait: nothing is limited; wanted "sessions" beside it, or "max_connections" of a target'
        report.value((*path, "queue"), text)
    if not limits.queue and limits.action != "delay" and limits.queue_timeout != SessionLimits().queue_timeout:
        report.key((*path, "queue_timeout"), 'nobody waits; wanted "queue" beside it: how many clients may')
    for burst, rate in (("burst", "rate"), ("burst_per_client", "rate_per_client")):
        if getattr(limits, burst) and not getattr(limits, rate):
            report.key((*path, burst), f'there is no rate that it belongs to; wanted "{rate}" beside it')
    if limits.action == "delay" and not (limits.rate or limits.rate_per_client):
        report.value((*path, "action"), 'nobody would wait; wanted "rate" or "rate_per_client" beside it')
    if limits.action == "delay" and app.get("mode") == "http":
        report.value((*path, "action"), 'mode "http" answers a request above a rate with 429; "delay" is of mode "tcp"')
    wanted = " or ".join(f'"{key}"' for key in OF_CLIENTS)
    for key in ("ipv4_prefix", "ipv6_prefix", "clients"):
        if getattr(limits, key) != getattr(SessionLimits(), key) and not any(getattr(limits, one) for one in OF_CLIENTS):
            report.key((*path, key), f"no client is limited by itself; wanted {wanted} beside it")
    return limits
