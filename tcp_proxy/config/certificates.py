"""Files of certificates and keys, read and checked: what a configuration names becomes values that hold their contents.

The supervisor's process only, in the thread that loads the configuration. `cryptography` (extra `tls`) is imported for the
first file, and nowhere else. A password is used here and kept nowhere; what goes on is the key without it.

Always true: no message has a byte of a key or a password (test_no_error_shows_a_secret).
"""

import contextlib
import dataclasses
import ipaddress
import itertools
import os
import re
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tcp_proxy.config.files import read_file
from tcp_proxy.config.tls_model import Certificate, PemFile, TargetTls, Tls

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509

MOST = 16 * 1024 * 1024  # bytes of a file; all public authorities together are a quarter of a megabyte
BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
WITH_TRUST = b"-----BEGIN TRUSTED"  # OpenSSL's own form, with what it is trusted for behind it
LISTS = (b"X509 CRL",)
DER = b"\x30"  # how certificates, keys and PKCS #12 begin when they are no text
KEPT = 64  # files that were read last
MISSING = 'TLS needs the package cryptography: pip install "tcp_proxy[tls]"'


class Fault(ValueError):
    """What is wrong, as a clause for the user; `key` is the key of the file that it is about, "" for the whole."""

    def __init__(self, text: str, key: str = "") -> None:
        super().__init__(text)
        self.key = key


class Files(NamedTuple):
    """Where a certificate is; "" for what is not said."""

    chain: str
    key: str = ""
    password_file: str = ""


class LastRead:
    """What the files that were read last hold, by file: thousands of targets may share one, and then have it in memory once.
    A file that is read again takes the place of what it was before, so that a key that was replaced is held no longer. For
    several threads."""

    def __init__(self) -> None:
        self._found: dict[Any, tuple[tuple[str, ...], Any]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<LastRead {len(self._found)}>"

    def of(self, files: Any, stamps: tuple[str, ...], read: Callable[[], Any]) -> Any:
        """Raises what `read` does; then nothing is held of these files."""
        with self._lock:
            known = self._found.pop(files, None)
        found = known if known is not None and known[0] == stamps else (stamps, read())
        with self._lock:
            self._found[files] = found
            if len(self._found) > KEPT:
                del self._found[next(iter(self._found))]
        return found[1]


_certificates, _pems = LastRead(), LastRead()


def require() -> None:
    """Raises Fault when what reads certificates is not installed."""
    try:
        import cryptography.x509  # noqa: F401  an extra: only who speaks TLS needs it
    except ImportError:
        raise Fault(MISSING) from None


def read_pem(path: str, kinds: tuple[bytes, ...], what: str) -> PemFile:
    """A file with at least one block of these kinds; other blocks are left out. Raises Fault."""
    stamps = (stamp(path),)
    found: PemFile = _pems.of((path, kinds), stamps, lambda: _read_pem(path, stamps, kinds, what))
    return found


def _read_pem(path: str, stamps: tuple[str, ...], kinds: tuple[bytes, ...], what: str) -> PemFile:
    blocks = _blocks(_contents(path), kinds)
    if not blocks:
        raise Fault(_lacks(path, what))
    pem = _joined(blocks)
    parsed = [_parse(block, number, kinds is LISTS) for number, block in enumerate(blocks, 1)]
    return PemFile(path, pem, stamps, *(_time_of(parsed) if kinds is LISTS else ()))


def _time_of(lists: list[Any]) -> tuple[float, float]:
    """Of the list that is over first."""
    first = min((one for one in lists if one.next_update_utc), key=lambda one: one.next_update_utc, default=None)
    return (0.0, 0.0) if first is None else (first.last_update_utc.timestamp(), first.next_update_utc.timestamp())


def read_authorities(path: str) -> PemFile:
    return read_pem(path, CERTIFICATES, "certificate")


def read_revoked(path: str) -> PemFile:
    return read_pem(path, LISTS, "list of revoked certificates")


def read_certificate(files: Files) -> Certificate:
    """Raises Fault."""
    stamps = tuple(stamp(path) for path in files if path)
    found: Certificate = _certificates.of(files, stamps, lambda: _read_certificate(files, stamps))
    return found


def _read_certificate(files: Files, stamps: tuple[str, ...]) -> Certificate:
    try:
        return _judged(files, stamps)
    except Fault:
        raise
    except ValueError:  # some of a certificate is read when it is asked for
        raise Fault("a certificate in it is damaged", "chain") from None


def _judged(files: Files, stamps: tuple[str, ...]) -> Certificate:
    contents = _contents(files.chain, "chain")
    blocks = _blocks(contents, CERTIFICATES)
    if not blocks:
        raise Fault(_lacks(files.chain, "certificate", contents), "chain")
    try:
        chain: list[X509] = [_parse(block, number, False) for number, block in enumerate(blocks, 1)]
    except Fault as fault:
        raise Fault(str(fault), "chain") from None
    key = _key(files, contents)
    _require_fit(chain, key)
    _require_order(chain)
    names, addresses = _names(chain[0])
    return Certificate(
        files.chain, files.key, files.password_file, _joined(blocks), _pem_of(key), names, addresses,
        chain[0].not_valid_before_utc.timestamp(), chain[0].not_valid_after_utc.timestamp(),
        _algorithm(key.public_key()), _fingerprint(chain[0]), stamps,
    )  # fmt: skip


# -- again


def as_read(said: Mapping[str, Any]) -> TargetTls:
    """What tls_model.as_said has said, with what stands in its files now. Raises Fault."""
    require()
    certificate, ca = said["certificate"], said["ca"]
    given: dict[str, Any] = {**said, "alpn": tuple(said["alpn"]), "ca": None if ca is None else read_authorities(ca)}
    if certificate is not None:
        given["certificate"] = read_certificate(Files(*(certificate[key] or "" for key in Files._fields)))
    return TargetTls(**given)


def again(tls: Tls | TargetTls, changed: Collection[str]) -> Tls | TargetTls:
    """The same with what stands in these files now. Raises Fault, its text with the file."""
    if isinstance(tls, Tls):
        found = tuple(_again(one, changed) for one in tls.certificates)
        ca, crl = _pem_again(tls.client_ca, changed), _pem_again(tls.crl, changed)
        return dataclasses.replace(tls, certificates=found, client_ca=ca, crl=crl)
    own = None if tls.certificate is None else _again(tls.certificate, changed)
    return dataclasses.replace(tls, certificate=own, ca=_pem_again(tls.ca, changed))


def _again(known: Certificate, changed: Collection[str]) -> Certificate:
    if not any(path in changed for path in known.files):
        return known
    files = Files(known.chain_file, known.key_file, known.password_file)
    try:
        return read_certificate(files)
    except Fault as fault:
        path = {"key": files.key, "password_file": files.password_file}.get(fault.key) or files.chain
        raise Fault(f"{path}: {fault}") from None


def _pem_again(known: PemFile | None, changed: Collection[str]) -> PemFile | None:
    if known is None or known.path not in changed:
        return known
    try:
        return read_revoked(known.path) if "X509 CRL" in known.pem else read_authorities(known.path)
    except Fault as fault:
        raise Fault(f"{known.path}: {fault}") from None


# -- files


def stamp(path: str) -> str:
    """Another one when the file may have another content; "" when there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _contents(path: str, key: str = "") -> bytes:
    try:
        found = read_file(path, MOST + 1)
    except FileNotFoundError:
        raise Fault("there is no such file", key) from None
    except IsADirectoryError:
        raise Fault("this is a folder; wanted a file", key) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Fault(f"cannot be read: {reason}", key) from None
    if len(found) > MOST:
        raise Fault(f"this is bigger than {MOST} bytes", key)
    return found


def _blocks(contents: bytes, kinds: tuple[bytes, ...]) -> list[bytes]:
    return [found[0] for found in BLOCK.finditer(contents) if found[1] in kinds]


def _joined(blocks: list[bytes]) -> str:
    return "".join(block.decode("ascii", "replace") + "\n" for block in blocks)


def _lacks(path: str, what: str, contents: bytes = b"") -> str:
    contents = contents or _contents(path)
    if not contents.strip():
        return "the file is empty"
    if contents.startswith(DER):
        return "this is no PEM but a binary form (DER or PKCS #12); openssl makes PEM of it"
    return f"there is no {what} in it; wanted PEM, with lines that begin with -----BEGIN"


def _parse(block: bytes, number: int, is_list: bool) -> Any:
    from cryptography import x509

    what = "list" if is_list else "certificate"
    if block.startswith(WITH_TRUST):
        raise Fault(f"{what} {number} in it is of OpenSSL's form with trust; openssl x509 -in FILE makes a plain one of it")
    try:
        return x509.load_pem_x509_crl(block) if is_list else x509.load_pem_x509_certificate(block)
    except (ValueError, x509.InvalidVersion):
        raise Fault(f"{what} {number} in it is damaged") from None


# -- the key


def _key(files: Files, chain: bytes) -> Any:
    """The private key, without its password."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    place = "key" if files.key else "chain"
    contents = _contents(files.key, "key") if files.key else chain
    blocks = [found[0] for found in BLOCK.finditer(contents) if found[1].endswith(b"PRIVATE KEY")]
    if not blocks:
        more = "" if files.key else '; wanted one, or "key" beside it'
        raise Fault(_lacks(files.key or files.chain, "private key", contents) + more, place)
    password = _password(files.password_file) if files.password_file else None
    try:
        return load_pem_private_key(blocks[0], password)
    except TypeError:  # that is how it says whether there is to be a password
        if password is None:
            raise Fault('the key has a password; wanted "password_file" beside it', place) from None
        raise Fault("the key has no password; wanted no such file", "password_file") from None
    except UnsupportedAlgorithm:
        raise Fault("the key is of a kind that is not known", place) from None
    except ValueError:
        if password is not None:
            raise Fault("the password is wrong, or the key is damaged", "password_file") from None
        raise Fault("the key is damaged", place) from None


def _password(path: str) -> bytes:
    lines = _contents(path, "password_file").splitlines()
    if not lines or not lines[0]:
        raise Fault("there is no password in its first line", "password_file")
    return lines[0]


def _pem_of(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def _algorithm(key: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return type(key).__name__.removeprefix("_").removesuffix("PublicKey")


# -- the chain


def _public(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    found: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


def _require_fit(chain: "list[X509]", key: Any) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm

    wanted = _public(key.public_key())
    fits: list[int] = []
    for number, one in enumerate(chain, 1):
        with contextlib.suppress(UnsupportedAlgorithm):  # of those that sign it; a key of such a kind is refused before
            fits += [number] if _public(one.public_key()) == wanted else []
    if not fits:
        raise Fault(f"the key does not belong to the certificate of {_subject(chain[0])}", "key")
    if fits[0] != 1:
        raise Fault(f"out of order: the key's own certificate is number {fits[0]} in it; wanted it first", "chain")


def _require_order(chain: "list[X509]") -> None:
    """Each is followed by the one that it is signed by. Where it is signed in a way that is not known, its name says so."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    for number, (one, issuer) in enumerate(itertools.pairwise(chain), 1):
        try:
            with contextlib.suppress(UnsupportedAlgorithm):
                one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            text = f"certificate {number} ({_subject(one)}) is not signed by certificate {number + 1} ({_subject(issuer)})"
            raise Fault(f"out of order: {text}; wanted each followed by the one that it is signed by", "chain") from None


def _subject(one: "X509") -> str:
    return one.subject.rfc4514_string() or "no name"


def _fingerprint(one: "X509") -> str:
    from cryptography.hazmat.primitives.hashes import SHA256

    digest: bytes = one.fingerprint(SHA256())
    return digest.hex()


def _names(one: "X509") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """DNS names and addresses; the common name is one of them only where there is nothing else, as for browsers of old."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        found = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        common = [str(part.value) for part in one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        return tuple(name.lower() for name in common), ()
    names = dict.fromkeys(name.lower().rstrip(".") for name in found.get_values_for_type(x509.DNSName))
    addresses = dict.fromkeys(
        str(address) for address in found.get_values_for_type(x509.IPAddress)
        if isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
    )  # fmt: skip
    return tuple(names), tuple(addresses)
