"""What the health threads are asked of an app's targets, made from what is known of them. Pure."""

from collections.abc import Iterable, Iterator

from tcp_proxy.config.model import Check
from tcp_proxy.config.tls_model import way_of
from tcp_proxy.control.health.probe import Secured, subject_of
from tcp_proxy.control.health.subject import Endpoints
from tcp_proxy.control.targets.known import KnownApp, KnownTarget
from tcp_proxy.sansio.share import AT_ONCE

Asked = tuple[dict[str, Endpoints], dict[str, str], dict[str, Secured]]


def parts(targets: list[KnownTarget]) -> Iterator[list[KnownTarget]]:
    """So many as a slice may do."""
    return (targets[begin : begin + AT_ONCE] for begin in range(0, len(targets), AT_ONCE))


def asked(targets: Iterable[KnownTarget]) -> Asked:
    """What of them is to be probed, how its hosts are written, and how TLS is spoken where it is."""
    endpoints, hosts, secured = {}, {}, {}
    for target in targets:
        probed = target.probed()
        if probed:
            endpoints.update(probed)
            hosts.update(target.written())
            secured.update(secured_of(target))
    return endpoints, hosts, secured


def secured_of(target: KnownTarget) -> dict[str, Secured]:
    """How TLS is spoken with each of its subjects; {}: it is not."""
    if target.config.tls is None:
        return {}
    way, name = way_of(target.config.tls), target.config.name
    return {
        subject_of(name, port) if target.config.is_group else name: Secured(asked, way)
        for port, asked in target.server_names()
    }


def own(app: KnownApp, targets: Iterable[KnownTarget]) -> dict[str, tuple[Check, ...] | None]:
    """The checks of these that are not those of the app; None where they are."""
    usual = app.config.health
    checks = {target.config.name: target.config.checks(usual, app.config.source) for target in targets}
    return {target: found if found is not usual else None for target, found in checks.items()}
