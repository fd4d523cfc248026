"""The check `exchange`: bytes are sent, and what is expected comes back; or a preset leads the conversation."""

import functools

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.connecting import with_port
from tcp_proxy.control.health.probe import Done, Secured, shown
from tcp_proxy.control.health.talk import Talk
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio import pattern
from tcp_proxy.sansio.address import host_field, server_name
from tcp_proxy.sansio.dialogue import Dialogue, exchange
from tcp_proxy.sansio.escapes import decoded
from tcp_proxy.sansio.presets import PRESETS
from tcp_proxy.wire.views import Endpoint


@functools.cache
def expected(check: Check) -> pattern.Finder:
    return pattern.regex(check.expect_regex) if check.expect_regex else pattern.text(decoded(check.expect))


def dialogue(check: Check) -> Dialogue:
    if check.preset is not None:
        return PRESETS[check.preset](check.user or "")
    return exchange(decoded(check.send), expected(check))


def start(
    loop: Loop, endpoint: Endpoint, check: Check, done: Done, host: str = "", secured: Secured | None = None
) -> Talk:
    """`host`: the target's, as it is written, for TLS to ask for; `secured`: its own TLS."""
    asked = server_name(host_field(host, 0, 0)) if host else ""
    name = f"{check.preset or 'exchange'} {shown(with_port(endpoint, check.port))}"
    if secured is None and check.tls:
        secured = Secured(asked)
    return Talk(loop, endpoint, check, done, name, dialogue(check), secured)
