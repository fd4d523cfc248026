"""The contenders where TLS with clients is ended: a certificate with P-256, mode tcp, all else as each has it by default.

nginx is left out: HAProxy is the measure of TLS here, with the same OpenSSL as far as it is from the same system.
"""

import datetime
import pathlib
from collections.abc import Mapping

from benchmarks.programs import find
from benchmarks.proxies import Argv, Contender, haproxy_config, project_config, project_of

DAY = datetime.timedelta(days=1)
HAPROXY_APP = """\
listen {name}
    bind 127.0.0.1:{port} ssl crt {pem}
    server target 127.0.0.1:{target}
"""


def write_project(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> tuple[Argv, dict[str, str]]:
    text = project_config(contender, ports, targets, folder)
    pem = write_certificate(folder)
    apps = [
        {
            "name": name, "ports": [ports[name]], "targets": [f"127.0.0.1:{port}"], "health": [],
            "tls": {"certificates": [{"chain": str(pem)}]},
        }
        for name, port in targets.items()
    ]  # fmt: skip
    return project_of({**text, "apps": apps}, folder)


def write_haproxy(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> tuple[Argv, None]:
    pem = write_certificate(folder)
    text = haproxy_config(contender, {}, {})
    for name, target in targets.items():
        text += HAPROXY_APP.format(name=name, port=ports[name], target=target, pem=pem)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    return [find("haproxy"), "-db", "-f", config], None


WRITERS = {"project": write_project, "haproxy": write_haproxy}


def write_certificate(folder: pathlib.Path) -> pathlib.Path:
    """A new one that is signed by itself, with its key, in one file."""
    from cryptography import x509  # noqa: PLC0415  only who measures TLS needs it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY).not_valid_after(now + 365 * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate.pem"
    path.touch(0o600)
    path.write_bytes(certificate.public_bytes(pem) + secret)
    return path
