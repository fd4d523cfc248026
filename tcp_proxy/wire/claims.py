"""The name of a claim: how a worker says, and a supervisor reads, that sessions with a primary may be left. Pure.

    tcp_proxy/primary/WORKER/SUPERVISOR/ADDRESS       in the abstract namespace of UNIX sockets; both are process ids
"""

from tcp_proxy.sansio.frozen_dataclass import dataclass

_PREFIX = "tcp_proxy/primary/"


@dataclass(frozen=True, slots=True)
class Claim:
    worker: int
    supervisor: int
    address: str  # of a listener, as in the configuration

    @property
    def name(self) -> bytes:
        """What bind() takes."""
        return f"\0{_PREFIX}{self.worker}/{self.supervisor}/{self.address}".encode()[:108]


def read_claim(name: str) -> "Claim | None":
    """From a line of /proc/net/unix, where "@" stands for the zero; None: it is something else."""
    if not name.startswith(f"@{_PREFIX}"):
        return None
    worker, _, rest = name[len(_PREFIX) + 1 :].partition("/")
    supervisor, _, address = rest.partition("/")
    if not (worker.isdecimal() and supervisor.isdecimal() and address):
        return None
    return Claim(int(worker), int(supervisor), address)
