"""Where logs go, as checked, frozen values; as `model`, which imports this."""

from tcp_proxy.sansio.frozen_dataclass import dataclass

STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Log:
    level: str = "info"  # debug, info, warning, error
    format: str = "text"  # text, json; the access log's format too
    to: str = STDERR  # or a syslog server (sansio.syslog)


NO_LOG = "off"
TRACES = "\0traces"  # in place of a path: what is traced goes to the exporter; no file has such a name


@dataclass(frozen=True, slots=True)
class Tracing:
    """Spans of sessions and requests, for a collector that speaks OTLP."""

    endpoint: str  # where spans are posted to, as a whole
    service_name: str = "tcp_proxy"
    sample: float = 1.0  # of the traces that begin here
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float = 10.0
    ca: str | None = None  # path of a file; None: the system's authorities


@dataclass(frozen=True, slots=True)
class AccessLogs:
    """Which lines go where. A path is a file's, "-" for stdout, or a syslog server; "": nowhere."""

    path: str = ""  # of the apps that have none of their own
    format: str = "text"
    apps: tuple[tuple[str, str, str], ...] = ()  # those that are others: name, path, format
    sample: float | None = None  # of the sessions and requests that are traced; None: there is no tracing

    @property
    def paths(self) -> tuple[str, ...]:
        """Where there is anything to write to, each once."""
        traces = (TRACES,) if self.sample is not None else ()
        return tuple(filter(None, dict.fromkeys((self.path, *(path for _, path, _ in self.apps), *traces))))

    @property
    def files(self) -> tuple[str, ...]:
        """The same without the exporter of traces."""
        return tuple(path for path in self.paths if path != TRACES)
