"""Contexts of Python's ssl module, made from the values of a configuration. Control and dataplane may make them.

ssl loads certificates from files only: each is written to a file in memory (memfd) that no other process can name, loaded
from there and closed. A context belongs to who made it, and may be used by several threads.

Always true of a context from here: no TLS before 1.2; no renegotiation; an end without close_notify is an error and not an
end (docs/rules.md, R1); the ciphers of TLS 1.2 are ECDHE with AEAD unless the user has named others.
"""

import contextlib
import hashlib
import hmac
import os
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from tcp_proxy.config.tls_model import TLS_1_3, Certificate, TargetTls, Tls
from tcp_proxy.runtime import openssl
from tcp_proxy.sansio.server_names import ServerNames

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class TlsServer:
    """For the clients of one app: wrap_bio or wrap_socket of `context`, which takes the certificate by the client's name."""

    def __init__(self, tls: Tls) -> None:
        """Raises OSError (ssl.SSLError is one) when OpenSSL takes something not."""
        self._tls = tls
        groups = _by_names(tls.certificates)
        self.contexts = tuple(_server_context(tls, group) for group in groups)
        self.context = self.contexts[0]
        entries = ((name, made) for made, group in zip(self.contexts, groups, strict=True) for name in group[0].names)
        self._names = ServerNames(entries, one_label=True)
        self._chooses = len(self.contexts) > 1 or tls.strict_sni
        self.context.sni_callback = self._choose

    def __repr__(self) -> str:
        return f"<TlsServer: {len(self.contexts)} contexts, {self._names!r}>"

    def set_ticket_key(self, master: bytes, app: str) -> bool:
        """Clients of this app can take up a session at any worker that has the same. False when this Python cannot do that
        (openssl.cannot): each context has a key of its own then."""
        if not self._tls.tickets:
            return True
        key = _ticket_key(master, app, self._tls)
        return all([openssl.set_ticket_key(context, key) for context in self.contexts])

    def _choose(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> int | None:
        """An alert, or None to go on. The name is remembered: Python tells nobody else of it."""
        connection.asked_name = name
        if not self._chooses:
            return None
        found = self._names.find(name) if name is not None else None
        if found is not None:
            if found is not self.context:
                connection.context = found
        elif self._tls.strict_sni:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None


def client_context(tls: TargetTls) -> ssl.SSLContext:
    """For targets; wrap_bio or wrap_socket needs the `server_hostname`. Raises OSError."""
    made = _context(ssl.PROTOCOL_TLS_CLIENT, tls.min_version, tls.alpn)
    made.set_ciphers(CIPHERS)
    made.check_hostname = tls.verify
    made.verify_mode = ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE
    if tls.ca is not None:
        made.load_verify_locations(cadata=tls.ca.pem)
    elif tls.verify:
        made.load_default_certs()
    if tls.certificate is not None:
        _load(made, tls.certificate)
    return made


class HandshakeFailed(OSError):
    """There is no TLS: why, in OpenSSL's words, as its `strerror`. The alert is on its way to the peer."""


def fault(error: OSError) -> str:
    """What an ssl.SSLError says, in small letters; "" for any other."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    return (error.reason or str(error)).lower().replace("_", " ") if isinstance(error, ssl.SSLError) else ""


# -- parts


def _context(protocol: Any, min_version: str, alpn: Sequence[str]) -> ssl.SSLContext:
    made = ssl.SSLContext(protocol)
    made.minimum_version = ssl.TLSVersion.TLSv1_3 if min_version == TLS_1_3 else ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    made.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def _server_context(tls: Tls, certificates: Sequence[Certificate]) -> ssl.SSLContext:
    made = _context(ssl.PROTOCOL_TLS_SERVER, tls.min_version, tls.alpn)
    made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    # Of TLS 1.3, where OpenSSL makes two: each costs a 17th of a new connection, and a client has one of each connection.
    made.num_tickets = 1
    if not tls.tickets:
        made.options |= ssl.OP_NO_TICKET
        made.num_tickets = 0
        openssl.remember_no_sessions(made)
    made.set_ciphers(tls.ciphers or CIPHERS)
    if tls.ciphersuites and not openssl.set_ciphersuites(made, tls.ciphersuites):
        raise OSError(f"ciphersuites: {openssl.cannot() or 'this OpenSSL does not have them'}")
    for certificate in certificates:
        _load(made, certificate)
    made.verify_mode = VERIFY[tls.verify]
    if tls.client_ca is not None:
        with _file(tls.client_ca.pem) as path:
            made.load_verify_locations(path)
            openssl.name_authorities(made, path)  # a client with several certificates chooses by that
    if tls.crl is not None:
        with _file(tls.crl.pem) as path:
            made.load_verify_locations(path)
        made.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return made


def _ticket_key(master: bytes, app: str, tls: Tls) -> bytes:
    """A client that another app has let in, or the same app when it asked for less, has not shown what this one wants to
    see: its ticket must be of no use here."""
    asked = (app, tls.verify, tls.client_ca and tls.client_ca.pem, tls.crl and tls.crl.pem, tls.min_version)
    seed = hashlib.sha512(repr(asked).encode("utf-8", "surrogatepass")).digest()
    return b"".join(hmac.digest(master, seed + bytes([part]), "sha512") for part in (0, 1))[: openssl.KEY_SIZE]


def _by_names(certificates: Sequence[Certificate]) -> list[list[Certificate]]:
    """Those of the same names and of different kinds of keys are one: OpenSSL takes what the client can use."""
    groups: list[list[Certificate]] = []
    for one in certificates:
        for group in groups:
            kinds = {other.algorithm.split()[0] for other in group}
            if set(group[0].names) == set(one.names) and one.algorithm.split()[0] not in kinds:
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    with _file(certificate.chain) as chain, _file(certificate.key) as key:
        context.load_cert_chain(chain, key)


@contextlib.contextmanager
def _file(text: str) -> Iterator[str]:
    """A path that leads to this text, in this process and until the end of the block."""
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        data = memoryview(text.encode())
        while data:
            data = data[os.write(fd, data) :]
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
