"""Certificates for tests, made with the library `cryptography`: an authority signs for names; files in PEM."""

import datetime
import ipaddress
import itertools
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)
NO_PASSWORD = serialization.NoEncryption()
_numbers = itertools.count(1)


def new_key(kind="ec"):
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, int(kind))


def pem_of(key, password=None):
    lock = serialization.BestAvailableEncryption(password.encode()) if password else NO_PASSWORD
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock).decode()


OF_KEYS = bytes.fromhex("06072a8648ce3d0201")  # id-ecPublicKey


def other_kind_of_key(pem):
    """The certificate with a key of a kind that nobody knows."""
    return _with(pem, OF_KEYS, OF_KEYS[:-1] + b"\x7f")


def no_point(pem):
    """The certificate with a key that is none: that is seen when somebody asks for it."""
    return _with(pem, b"\x03\x42\x00\x04", b"\x03\x42\x00\x05")


def no_version(pem):
    return _with(pem, b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x30")


def _with(pem, old, new):
    der = ssl.PEM_cert_to_DER_cert(pem)
    assert old in der
    return ssl.DER_cert_to_PEM_cert(der.replace(old, new))


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Issued:
    """A certificate with its key and those that it is signed by."""

    def __init__(self, certificate, key, issuers=()):
        self.certificate, self.key, self.issuers = certificate, key, issuers

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def chain(self):
        return self.pem + "".join(one.pem for one in self.issuers)

    def write(self, folder, name="server", password=None, combined=False):
        """The keys of a configuration for it, with its files in the folder."""
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        if combined:
            chain.write_text(self.chain + pem_of(self.key))
            return {"chain": str(chain)}
        chain.write_text(self.chain)
        key.write_text(pem_of(self.key, password))
        said = {"chain": str(chain), "key": str(key)}
        if password:
            file = folder / f"{name}.password"
            file.write_text(f"{password}\n")
            said["password_file"] = str(file)
        return said


class Authority(Issued):
    """Signs. Its `issuers` are those above it, without the root."""

    def __init__(self, name="tests", above=None):
        key = new_key()
        signer = above.key if above else key
        made = (
            x509.CertificateBuilder()
            .subject_name(_name(name)).issuer_name(above.certificate.subject if above else _name(name))
            .public_key(key.public_key()).serial_number(next(_numbers))
            .not_valid_before(NOW - DAY).not_valid_after(NOW + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
            )
            .sign(signer, hashes.SHA256())
        )  # fmt: skip
        super().__init__(made, key, ())
        self.above = above

    def below(self, name="intermediate"):
        return Authority(name, self)

    def issue(self, *names, days=90, before=1, key="ec", common_name="", client=False, both=False):
        """A certificate for DNS names and addresses, of a server, a client or, for etcd, `both`."""
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH]
        if both:
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        own = new_key(key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name or (names[0] if names else "nobody"))).issuer_name(self.certificate.subject)
            .public_key(own.public_key()).serial_number(next(_numbers))
            .not_valid_before(NOW - before * DAY).not_valid_after(NOW + days * DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )  # fmt: skip
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        issuers = (self,) if self.above else ()
        return Issued(builder.sign(self.key, hashes.SHA256()), own, issuers)

    def revoke(self, *issued, days=30):
        """A list of revoked certificates, as PEM, which is over after so many days."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(NOW - 60 * DAY).next_update(NOW + days * DAY)
        for one in issued:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(NOW - DAY)
            builder = builder.add_revoked_certificate(entry.build())
        made = builder.sign(self.key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM).decode()


def _general(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
