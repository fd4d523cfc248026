"""SRV records, asked for in a thread of a resolver (control.targets.resolver); dnspython is loaded with the first question.

The system's resolver has no way to ask for them. How long an answer holds is said with it, and that is when it is asked
again.
"""

from collections.abc import Sequence

from tcp_proxy.sansio.srv import Record

LIFETIME = 5.0  # seconds for all servers together
AFTER_FAILURE = 5.0  # seconds
LEAST, MOST = 1.0, 3600.0  # seconds between two questions

Servers = Sequence[tuple[str, int]]  # (): those of the system


class SrvLookup:
    """Called with a name, in any thread; `wait_of` says when to ask again, in whatever thread."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._waits: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<SrvLookup at {self._servers or 'the servers of the system'}>"

    def wait_of(self, name: str) -> float:
        return self._waits.get(name, AFTER_FAILURE)

    def __call__(self, name: str) -> tuple[Record, ...]:
        """Raises OSError."""
        from dns.exception import DNSException  # noqa: PLC0415  only where there is such a target

        self._waits.pop(name, None)
        try:
            found, seconds = self._ask(name)
        except DNSException as error:
            raise OSError(0, f"the DNS says: {error}") from None
        self._waits[name] = min(MOST, max(LEAST, seconds))
        return found

    def _ask(self, name: str) -> tuple[tuple[Record, ...], float]:
        from dns.nameserver import Do53Nameserver  # noqa: PLC0415
        from dns.resolver import Resolver  # noqa: PLC0415

        resolver = Resolver(configure=not self._servers)
        if self._servers:
            resolver.nameservers = [Do53Nameserver(host, port) for host, port in self._servers]
        answer = resolver.resolve(f"{name.removesuffix('.')}.", "SRV", lifetime=LIFETIME, search=False)
        records = [
            Record(one.priority, one.weight, one.port, one.target.to_text(omit_final_dot=True))
            for one in answer
            if one.target.to_text() != "."  # RFC 2782: decidedly not available here
        ]
        return tuple(records), float(answer.rrset.ttl if answer.rrset is not None else 0)
