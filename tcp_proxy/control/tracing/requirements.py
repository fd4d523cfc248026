"""What tracing needs that is not a part of the program: looked for before a start, never loaded here."""

import os
from importlib.util import find_spec

from tcp_proxy.config.log_model import Tracing

NEEDED = "opentelemetry.exporter.otlp.proto.http"


def tracing_faults(tracing: Tracing | None) -> list[str]:
    """One line for each thing that is missing."""
    if tracing is None:
        return []
    try:
        is_there = find_spec(NEEDED) is not None
    except ImportError:  # not even what it is a part of
        is_there = False
    if not is_there:
        return ["$.tracing: it needs opentelemetry-exporter-otlp-proto-http: pip install 'tcp_proxy[otel]' brings it"]
    if tracing.ca is not None and not os.access(tracing.ca, os.R_OK):
        return [f"$.tracing.ca: {tracing.ca} cannot be read"]
    return []
