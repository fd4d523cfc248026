"""The key `tracing`: what fits the schema becomes a Tracing, unless it contradicts itself. Pure.

The URL of the collector is taken apart here once; what is none has its one line.
"""


from tcp_proxy.config.checks import http_headers
from tcp_proxy.config.log_model import Tracing
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain, given_of

WANTED = 'wanted "http://host:port" or "https://host:port/path"'
USUAL_PATH = "/v1/traces"  # of OTLP over HTTP
OURS = frozenset({"content-type", "content-encoding", "content-length", "host", "transfer-encoding"})


def build_tracing(plain: Plain, report: Report) -> Tracing:
    path: Path = ("tracing",)
    endpoint = plain.get("endpoint")
    whole = _endpoint(endpoint, (*path, "endpoint"), report) if endpoint is not None else ""
    headers = tuple(http_headers(plain.get("headers") or {}, (*path, "headers"), report))
    for name, _ in headers:
        if name.lower() in OURS:
            report.key((*path, "headers", name), f"{shown(name)} is what the message says of itself; wanted another header")
    ca, name = plain.get("ca"), plain.get("service_name") or ""
    if "\0" in (ca or ""):
        report.value((*path, "ca"), "a zero character in a path")
    elif ca is not None and whole and not whole.startswith("https:"):
        report.value((*path, "ca"), 'the collector is not spoken to by TLS; wanted an endpoint that begins with "https://"')
    if not name.isprintable() or name != name.strip():
        wanted = "wanted a name without control characters and without space around it"
        report.value((*path, "service_name"), f"found {shown(name)}; {wanted}")
    given = {"endpoint": whole, "headers": headers, "ca": ca}
    return Tracing(**given_of(Tracing, {**plain, **given}))


def _endpoint(text: str, path: Path, report: Report) -> str:
    """As a whole; "" for what is reported."""
    try:
        from urllib.parse import urlsplit  # noqa: PLC0415  nobody else pays for it

        url = urlsplit(text)
        is_right = url.scheme in ("http", "https") and url.hostname and url.port != 0 and url.username is None
        is_right = is_right and not url.fragment and text.isascii() and text.isprintable() and " " not in text
    except ValueError:
        is_right = False
    if not is_right:
        report.value(path, f"found {shown(text)}; {WANTED}")
        return ""
    return text if url.path not in ("", "/") else url._replace(path=USUAL_PATH).geturl()
