"""What setup.cfg cannot say: with TCP_PROXY_COMPILE=1 the modules on the way of every byte become C extensions, by mypyc,
from the same sources. Without it, or where one is missing, Python takes the source beside it, which stays the reference."""

import os
import pathlib

from setuptools import Extension, setup

MYPYC = "mypy[mypyc] >= 2.4, < 3"
# Whole folders, or modules; what a compiled class inherits from is compiled, too.
COMPILED = (
    "tcp_proxy/runtime/loop.py",
    "tcp_proxy/sansio/http1/*.py",
    "tcp_proxy/sansio/token_bucket.py",
    "tcp_proxy/wire/client_table.py",
    "tcp_proxy/wire/log_lines.py",
    "tcp_proxy/dataplane/edge/*.py",
    "tcp_proxy/dataplane/http/*.py",
    "tcp_proxy/dataplane/relay/*.py",
    "tcp_proxy/dataplane/apps.py",
    "tcp_proxy/dataplane/counted.py",
    "tcp_proxy/dataplane/client_limits.py",
    "tcp_proxy/dataplane/delivery.py",
    "tcp_proxy/dataplane/dial.py",
    "tcp_proxy/dataplane/keyed_dial.py",
    "tcp_proxy/dataplane/live_target.py",
    "tcp_proxy/dataplane/places.py",
    "tcp_proxy/dataplane/server.py",
    "tcp_proxy/dataplane/session.py",
    "tcp_proxy/dataplane/session_counters.py",
    "tcp_proxy/dataplane/session_state.py",
    "tcp_proxy/dataplane/sticky/dial.py",
    "tcp_proxy/dataplane/sticky/session.py",
    "tcp_proxy/dataplane/tls_told.py",
)
NOT_COMPILED = ("__init__.py",)


def sources() -> list[str]:
    root = pathlib.Path(__file__).parent
    found = sorted(str(path.relative_to(root)) for pattern in COMPILED for path in root.glob(pattern))
    return [path for path in found if not path.endswith(NOT_COMPILED)]


def extensions() -> list[Extension]:
    """Raises ImportError where mypyc is not installed."""
    from mypyc.build import mypycify  # noqa: PLC0415  only who compiles needs it

    level = os.environ.get("TCP_PROXY_COMPILE_LEVEL", "3")  # 1 is built in half the time
    return list(mypycify(sources(), opt_level=level, multi_file=True, group_name="tcp_proxy"))


def main() -> None:
    if os.environ.get("TCP_PROXY_COMPILE") != "1":
        setup()
        return
    try:
        found = extensions()
    except ImportError:  # pip has only asked what has to be there for a build
        setup(setup_requires=[MYPYC])
    else:
        setup(ext_modules=found)


if __name__ == "__main__":
    main()
