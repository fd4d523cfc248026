"""What a worker loads: the data plane and nothing of the control plane, so that it starts fast and stays small."""

import subprocess
import sys

import pytest

from kit.proxy import ROOT

FOREIGN = [
    "jsonschema", "json.tool", "sqlite3", "asyncio", "subprocess", "multiprocessing", "concurrent.futures", "ssl", "ping3",
    "fastapi", "uvicorn", "pydantic", "argparse", "unittest", "http", "email", "urllib.request",
    "tcp_proxy.control", "tcp_proxy.config.load", "tcp_proxy.config.schema", "tcp_proxy.cli",
    "tcp_proxy.dataplane.http", "tcp_proxy.sansio.http1",  # only where an app is in mode http
    "hashlib", "_hashlib", "hmac", "urllib",  # OpenSSL is loaded by who needs it
]  # fmt: skip


@pytest.fixture(scope="module")
def loaded():
    """The modules that an interpreter holds when it has imported the worker."""
    code = "import tcp_proxy.dataplane.worker, sys; sys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", FOREIGN)
def test_a_worker_does_not_load(loaded, module):
    assert module not in loaded
    assert not any(name.startswith(f"{module}.") for name in loaded)


def test_a_worker_loads_the_data_plane(loaded):
    assert {"tcp_proxy.dataplane.session", "tcp_proxy.runtime.loop", "tcp_proxy.wire.messages"} <= loaded


def test_a_proxy_that_is_alone_loads_nothing_of_a_cluster():
    code = "import tcp_proxy.control.supervisor, sys; sys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not [name for name in loaded if name.startswith(("tcp_proxy.control.cluster", "tcp_proxy.control.etcd"))]
    assert not {"aiohttp", "tcp_proxy.control.sticky.shared", "tcp_proxy.control.processes.agent_process"} & {*loaded}


def test_a_supervisor_loads_openssl_when_somebody_needs_it():
    code = "import tcp_proxy.control.supervisor, sys; sys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"ssl", "_hashlib", "urllib", "pathlib"} & {*done.stdout.split()}
