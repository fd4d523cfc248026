"""The key `cluster`: what fits the schema becomes a Cluster, unless it contradicts itself. Pure.

URLs of etcd are taken apart here once; what is none has its one line. Files are not read: the agent reads them, each time
it is started (control.cluster_agent.credentials).
"""


from tcp_proxy.config.model import Cluster
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain, given_of

WANTED_NAME = "wanted a name without control characters and without space around it"
WANTED = 'wanted "https://host:port" or "http://host:port"'


def build_cluster(plain: Plain, report: Report) -> Cluster:
    path: Path = ("cluster",)
    given_urls = enumerate(plain.get("endpoints") or ())
    endpoints = [text for i, text in given_urls if _endpoint(text, (*path, "endpoints", i), report)]
    tls = plain.get("tls") or {}
    certificate = tls.get("certificate") or {}
    files = [tls.get("ca") or "", certificate.get("chain") or "", certificate.get("key") or ""]
    for key, file in (*(("tls", file) for file in files), ("password_file", plain.get("password_file") or "")):
        if "\0" in file:
            report.value((*path, key), "a zero character in a path")
    if any(files) and endpoints and not any(text.startswith("https:") for text in endpoints):
        report.key((*path, "tls"), 'no member is spoken to by TLS; wanted URLs that begin with "https://"')
    if bool(plain.get("user")) != bool(plain.get("password_file")) and not report:
        key, other = ("user", "password_file") if plain.get("user") else ("password_file", "user")
        report.value((*path, key), f'missing key "{other}" beside it')
    for key in ("name", "node"):
        text = plain.get(key) or ""
        if not text.isprintable() or text != text.strip():
            report.value((*path, key), f"found {shown(text)}; {WANTED_NAME}")
    certified = (files[1], files[2]) if files[1] else None
    given = {
        "endpoints": tuple(text.rstrip("/") for text in endpoints), "ca": files[0] or None, "certificate": certified,
        **{key: plain.get(key) for key in ("name", "node", "lease", "user", "password_file", "checkers")},
    }  # fmt: skip
    return Cluster(**given_of(Cluster, given))


def _endpoint(text: str | None, path: Path, report: Report) -> bool:
    """Whether it is one, or was reported already."""
    if text is None:
        return False
    try:
        from urllib.parse import urlsplit  # noqa: PLC0415  nobody else pays for it

        url = urlsplit(text)
        has_more = url.username is not None or url.query or url.fragment
        is_right = url.scheme in ("http", "https") and url.hostname and url.port and not has_more
        is_right = is_right and url.path in ("", "/") and text.isascii() and text.isprintable() and " " not in text
    except ValueError:
        is_right = False
    if not is_right:
        report.value(path, f"found {shown(text)}; {WANTED}")
    return bool(is_right)
