"""Who takes spans: OpenTelemetry's exporter for OTLP over HTTP, and one line for what is wrong with the collector.

In the thread `export` alone. The configuration says everything: what the environment has for all that use `requests` (other
authorities, proxies, passwords by host) is not looked at.
"""

import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from tcp_proxy.wire.messages import ExportTraces

MOST = 500  # characters of what is wrong


class Collector:
    def __init__(self, order: ExportTraces, make: Callable[..., Any] = OTLPSpanExporter) -> None:
        self._endpoint = order.endpoint
        self._said = LastWords()
        for name in ("opentelemetry", "urllib3", "requests"):  # what they say is a part of our one line
            quiet = logging.getLogger(name)
            quiet.addHandler(self._said)
            quiet.propagate = False
        self._session = Session()
        self._exporter = make(
            endpoint=order.endpoint,
            headers=dict(order.headers),
            timeout=order.timeout,
            certificate_file=order.ca or _authorities(),
            session=self._session,
        )

    def __repr__(self) -> str:
        return f"<Collector at {self._endpoint}>"

    def export(self, spans: Sequence[Any]) -> str:
        """What is wrong; "" for nothing."""
        self._said.text = self._session.trouble = ""
        try:
            if self._exporter.export(spans) is SpanExportResult.SUCCESS:
                return ""
        except requests.RequestException:  # version 1.36 raises what newer ones log; the session has seen it
            pass
        why = " ".join((self._session.trouble or self._said.text or "no answer").split())
        return f"the collector at {self._endpoint} does not take spans: {why[:MOST]}"


def _authorities() -> str | None:
    """The system's, as for everything else that speaks TLS here; None: those that come with `requests`."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath


class Session(requests.Session):
    """`trouble` is what the last attempt failed of: the exporter tells how its attempts ended, not why."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # else REQUESTS_CA_BUNDLE would win over the file that is given
        self.trouble = ""

    def request(self, *args: Any, **how: Any) -> requests.Response:
        try:
            answer = super().request(*args, **how)
        except requests.RequestException as error:
            self.trouble = root(error)
            raise
        if not answer.ok:
            self.trouble = f"{answer.status_code} {answer.reason}"
        return answer


def root(error: BaseException) -> str:
    """Of an error that others are wrapped around: what the operating system or TLS said."""
    *_, last = _chain(error)
    if isinstance(last, ssl.SSLError):
        return f"TLS: {getattr(last, 'verify_message', '') or last.reason or last}"
    return getattr(last, "strerror", "") or str(last) or type(last).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        within = [getattr(error, "reason", None), *error.args]
        wrapped = next((one for one in within if isinstance(one, BaseException)), None)
        error = wrapped or error.__cause__ or error.__context__


class LastWords(logging.Handler):
    """Keeps what a library has said last."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()
