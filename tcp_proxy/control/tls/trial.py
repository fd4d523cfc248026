"""Whether OpenSSL takes what a configuration says of TLS: every context is made once, before anything is applied.

The supervisor's process, in the thread that has read the configuration. What the files alone show is config.certificates'
to find; here is what only OpenSSL knows: a key that is too short for its security level, ciphers that it does not have.
"""

from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.config.report import ConfigError, ConfigErrors
from tcp_proxy.config.tls_model import TargetTls, Tls, way_of


def faults(config: Config) -> list[str]:
    """One line for each, with its place."""
    found: list[str] = []
    tried: dict[TargetTls, str] = {}
    for number, app in enumerate(config.apps):
        place = f"$.apps[{number}]"
        if app.tls is not None and (text := server_fault(app.tls)):
            found.append(f"{place}.tls{text}")
        found += _targets(app, place, tried)
    return found


def _targets(app: App, place: str, tried: dict[TargetTls, str]) -> list[str]:
    found = []
    for number, target in enumerate(app.targets):
        if target.tls is not None:
            way = way_of(target.tls)
            if way not in tried:
                tried[way] = client_fault(way)
            if tried[way]:
                found.append(f"{place}.targets[{number}].tls{tried[way]}")
    return found


def require(target: Target) -> Target:
    """One that is to be added while the program runs. Raises ConfigErrors."""
    text = client_fault(target.tls) if target.tls is not None else ""
    if text:
        raise ConfigErrors((ConfigError("target", 0, 0, "", f"tls{text}"),))
    return target


def server_fault(tls: Tls) -> str:
    """With the key that it is about; "" for none."""
    from tcp_proxy.runtime.tls import TlsServer  # noqa: PLC0415  ssl is loaded where TLS is spoken

    for number, certificate in enumerate(tls.certificates):
        try:
            TlsServer(Tls((certificate,)))
        except OSError as error:
            return f".certificates[{number}]: {certificate.chain_file}: {_said(error)}"
    try:
        TlsServer(tls)
    except OSError as error:
        return f": {_said(error)}"
    return ""


def client_fault(tls: TargetTls) -> str:
    from tcp_proxy.runtime.tls import client_context  # noqa: PLC0415

    try:
        client_context(tls)
    except OSError as error:
        return f": {_said(error)}"
    return ""


def _said(error: OSError) -> str:
    from tcp_proxy.runtime.tls import fault  # noqa: PLC0415

    return f"OpenSSL says: {fault(error)}" if fault(error) else str(error)
