"""What the configuration says of TLS, as a file says it: names of files, never what is in them. Pure, as views is."""

import dataclasses
from typing import Any

from tcp_proxy.config.model import Config
from tcp_proxy.config.tls_model import SniRoute, TargetTls, Tls, as_said
from tcp_proxy.control.tls.expiry import Held, held, held_lists

View = dict[str, Any]


def tls(known: Tls | TargetTls | None) -> View | None:
    return None if known is None else as_said(known)


def routes(known: tuple[SniRoute, ...]) -> list[View]:
    return [dataclasses.asdict(route) for route in known]


def certificate(known: Held) -> View:
    one = known.certificate
    keys = ("names", "addresses", "not_before", "not_after", "algorithm", "fingerprint")
    return {
        "app": known.app, "target": known.target or None, "file": one.chain_file, **{key: getattr(one, key) for key in keys}
    }  # fmt: skip


def expiry(config: Config) -> list[View]:
    """For the metrics."""
    return [
        {"app": one.app, "target": one.target, "file": one.certificate.chain_file, "not_after": one.certificate.not_after}
        for one in held(config)
    ]


def first_expiry(config: Config) -> float | None:
    return min((one.certificate.not_after for one in held(config)), default=None)


def lists(config: Config) -> list[View]:
    """Of revoked certificates, for the metrics."""
    return [{"app": one.app, "file": one.file.path, "not_after": one.file.not_after} for one in held_lists(config)]


def first_list_end(config: Config) -> float | None:
    return min((one.file.not_after for one in held_lists(config)), default=None)
