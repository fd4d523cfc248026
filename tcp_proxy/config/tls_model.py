"""TLS as checked, frozen values: what an app and a target say of it, with the certificates and keys themselves.

As config.model: no behaviour but questions, and control and dataplane import it. The files are read when the configuration
is loaded (config.certificates); everybody else has their contents from here, so a worker needs no right to read them.

Always true: neither `repr` nor `str` of any of these has a byte of a private key (test_no_key_is_shown).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from tcp_proxy.sansio.frozen_dataclass import dataclass

TLS_1_2, TLS_1_3 = "1.2", "1.3"


@dataclass(frozen=True, slots=True)
class PemFile:
    """A file of certificates, or of lists of revoked ones."""

    path: str
    pem: str = field(repr=False)
    stamps: tuple[str, ...] = field(default=(), repr=False, compare=False)  # of its file, when it was read
    # Of lists of revoked certificates: the time that the first of them to end is for. 0: others, and lists without an end.
    not_before: float = 0.0
    not_after: float = 0.0

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path,)

    def __str__(self) -> str:
        import hashlib  # noqa: PLC0415  it loads OpenSSL, which a start need not wait for

        return f"{self.path} (sha256 {hashlib.sha256(self.pem.encode()).hexdigest()[:16]})"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with those that it is signed by, its own first, and its private key. Times are Unix time."""

    chain_file: str
    key_file: str  # "": the key is in the chain's file
    password_file: str  # "": the key has no password
    chain: str = field(repr=False)  # PEM
    key: str = field(repr=False)  # PEM, without a password
    names: tuple[str, ...] = ()  # DNS names in lower case; "*.example.org" is for one label more
    addresses: tuple[str, ...] = ()
    not_before: float = 0.0
    not_after: float = 0.0
    algorithm: str = ""  # of the key: RSA 2048, EC secp256r1, Ed25519
    fingerprint: str = ""  # SHA-256 of the certificate, hexadecimal
    stamps: tuple[str, ...] = field(default=(), repr=False, compare=False)  # of its files, when they were read

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.chain_file, self.key_file, self.password_file)))

    def __str__(self) -> str:
        return f"{self.chain_file} (sha256 {self.fingerprint[:16]})"


@dataclass(frozen=True, slots=True)
class Tls:
    """What clients of an app are answered with."""

    certificates: tuple[Certificate, ...]
    strict_sni: bool = False  # a name that no certificate has, or none, is refused
    min_version: str = TLS_1_2
    ciphers: str | None = None  # of TLS 1.2, as OpenSSL writes them; None: those with forward secrecy and AEAD
    ciphersuites: tuple[str, ...] = ()  # of TLS 1.3; (): OpenSSL's
    alpn: tuple[str, ...] = ()  # the most wanted first; (): mode http "http/1.1", mode tcp none
    client_ca: PemFile | None = None
    verify: str = "none"  # a client's certificate: none, optional, required
    crl: PemFile | None = None  # of client_ca
    handshake_timeout: float = 5.0
    tickets: bool = True
    watch: bool = True


@dataclass(frozen=True, slots=True)
class TargetTls:
    """How a target is spoken to."""

    verify: bool = True
    ca: PemFile | None = None  # None: the system's
    server_name: str | None = None  # None: the host as the address is written
    alpn: tuple[str, ...] = ()
    certificate: Certificate | None = None  # ours, for a target that asks for one
    min_version: str = TLS_1_2
    watch: bool = True


@dataclass(frozen=True, slots=True)
class SniRoute:
    """Of mode tcp: the clients that ask for one of these names, by the ClientHello. The most exact one wins, of equals the
    one with `alpn`."""

    sni: tuple[str, ...]  # names in lower case, "*.name" for every name below it; (): all others, and clients that name none
    alpn: tuple[str, ...]  # the client offers one of these; (): whatever it offers
    targets: tuple[str, ...]  # names
    passthrough: bool  # the target gets the client's TLS as it is; False: it is ended here


def way_of(tls: TargetTls) -> TargetTls:
    """How it is spoken, to whomever: many targets have the same."""
    return tls if tls.server_name is None else dataclasses.replace(tls, server_name=None)


def distinct(
    each: Sequence[TargetTls | None], known: dict[TargetTls, int] | None = None
) -> tuple[tuple[TargetTls, ...], tuple[int, ...]]:
    """Each way to speak TLS once, without whom it is spoken to, and which of them each has (-1: none). `known` are those of
    others before these, and of these afterwards."""
    ways: dict[TargetTls, int] = {} if known is None else known
    which = [-1 if tls is None else ways.setdefault(way_of(tls), len(ways)) for tls in each]
    return tuple(ways), tuple(which)


def files_of(tls: Tls | TargetTls) -> tuple[str, ...]:
    """All that were read for it."""
    found: list[str] = []
    for field_ in dataclasses.fields(tls):
        value = getattr(tls, field_.name)
        for one in value if isinstance(value, tuple) else (value,):
            found += one.files if isinstance(one, Certificate | PemFile) else ()
    return tuple(found)


def as_said(tls: Tls | TargetTls) -> dict[str, Any]:
    """As a file says it: names of files, never what is in them. Key by key, so that a new one is not forgotten."""
    return {field.name: _as_said(getattr(tls, field.name)) for field in dataclasses.fields(tls)}


def _as_said(value: Any) -> Any:
    if isinstance(value, Certificate):
        return {"chain": value.chain_file, "key": value.key_file or None, "password_file": value.password_file or None}
    if isinstance(value, PemFile):
        return value.path
    return [_as_said(item) for item in value] if isinstance(value, tuple) else value


def parts_of(tls: Tls | TargetTls) -> tuple[Certificate | PemFile, ...]:
    """Everything that was read from files."""
    if isinstance(tls, Tls):
        return *tls.certificates, *filter(None, (tls.client_ca, tls.crl))
    return *filter(None, (tls.certificate,)), *filter(None, (tls.ca,))


def stamps_of(tls: Tls | TargetTls) -> dict[str, str]:
    """Of every file that it was read from: how that was then."""
    return {path: stamp for part in parts_of(tls) for path, stamp in zip(part.files, part.stamps, strict=True)}
