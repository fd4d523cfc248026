"""What an app says of the PROXY protocol becomes values. Pure; a part of config.build."""

from collections.abc import Iterator
from typing import Any

from tcp_proxy.config.model import AcceptProxy, Config, SendProxy
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain, given_of
from tcp_proxy.sansio.networks import parse_network

ANYBODY = "any"
EVERYWHERE = ("0.0.0.0/0", "::/0")
# Bytes of a header of version 2 with IPv6 addresses, and what each TLV may add.
BINARY = 52
TLV_SIZES = {"unique_id": 32, "crc32c": 7, "hops": 13, "authority": 258, "alpn": 258, "ssl": 512}
FOR_ALL = 107  # what every receiver takes that is known: nginx 1.22's stream module takes no more


def build_accept_proxy(app: Plain, path: Path, report: Report) -> AcceptProxy | None:
    plain: Any = app.get("accept_proxy")
    if plain is None:
        return None
    senders = plain.get("from")
    place = (*path, "accept_proxy", "from")
    networks: tuple[str, ...] = ()
    if senders == ANYBODY:
        networks = EVERYWHERE
    elif isinstance(senders, list):
        entries = [(text, (*place, i)) for i, text in enumerate(senders) if text is not None]
        networks = tuple(_network(text, here, report) for text, here in entries)
    elif isinstance(senders, str):
        wanted = 'wanted a list of addresses and networks, such as ["192.0.2.0/24"], or "any" for everybody'
        report.value(place, f"found {shown(senders)}; {wanted}")
    return AcceptProxy(
        networks=networks, **given_of(AcceptProxy, {key: plain.get(key) for key in ("required", "others", "max_size")})
    )


def _network(text: str, path: Path, report: Report) -> str:
    try:
        return str(parse_network(text))
    except ValueError as error:
        also = ' ("any" stands alone, not in a list)' if text == ANYBODY else ""
        wanted = 'wanted an address or a network, such as "192.0.2.0/24"'
        report.value(path, f"found {shown(text)}: {error}; {wanted}{also}")
        return text


def build_send_proxy(plain: Any, path: Path, report: Report) -> SendProxy | None:
    if plain is None or isinstance(plain, int | float):
        return None if plain is None else SendProxy(int(plain))
    tlvs = tuple(name for name in plain.get("tlvs") or () if name is not None)
    if tlvs and plain.get("version") == 1:
        report.value((*path, "tlvs"), 'a header of version 1 has no TLVs; wanted "version": 2, or no "tlvs"')
    return SendProxy(tlvs=tuple(dict.fromkeys(tlvs)), **given_of(SendProxy, {"version": plain.get("version")}))


def long_headers(config: Config) -> Iterator[str]:
    """What is to be said of headers that some receivers end, in words."""
    for app in config.apps:
        for target in app.targets:
            tlvs = target.send_proxy.tlvs if target.send_proxy is not None else ()
            size = BINARY + sum(TLV_SIZES[name] for name in tlvs)
            if size > FOR_ALL:
                who = f"app {app.name}: target {target.name}"
                some = f"some receivers end one of more than {FOR_ALL} (the stream module of nginx 1.22), most one of 1,000"
                yield f"{who}: its PROXY header may have {size} bytes with {', '.join(tlvs)}; {some}"
