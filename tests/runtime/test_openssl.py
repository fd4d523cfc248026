"""What is done beside Python's ssl module is tried before it is believed."""

import os
import pathlib
import ssl
import subprocess
import sys

import pytest

from tcp_proxy.runtime import openssl

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def anew():
    """The trial is made again."""
    openssl._library.cache_clear()
    openssl._library_with_memory.cache_clear()
    yield
    openssl._library.cache_clear()
    openssl._library_with_memory.cache_clear()


def test_this_python_can():
    assert openssl.cannot() == ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert openssl.set_ticket_key(context, bytes(openssl.KEY_SIZE))
    assert openssl.set_ciphersuites(context, ["TLS_AES_128_GCM_SHA256"])
    ciphers = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.3"]
    assert ciphers == ["TLS_AES_128_GCM_SHA256"]


def test_ciphers_that_there_are_not():
    assert not openssl.set_ciphersuites(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ["TLS_FAST"])


@pytest.mark.parametrize("shift", [-16, -8, 8, 16, 24])
def test_another_layout_is_noticed(anew, monkeypatch, shift):
    """As if the member were elsewhere: what stands there is no SSL_CTX."""

    def pointer(context):
        return openssl.ctypes.c_void_p.from_address(id(context) + object.__basicsize__ + shift).value or 0

    monkeypatch.setattr(openssl, "_pointer", pointer)
    assert openssl.cannot() == "Python's SSLContext is laid out in another way here"
    assert not openssl.set_ticket_key(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), bytes(openssl.KEY_SIZE))
    assert not openssl.set_ciphersuites(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ["TLS_AES_128_GCM_SHA256"])


@pytest.mark.parametrize("pointer", [0, 1, 4096, 2**47 - 4096])
def test_a_pointer_that_leads_nowhere_is_not_followed(anew, monkeypatch, pointer):
    monkeypatch.setattr(openssl, "_pointer", lambda _: pointer)
    assert openssl.cannot() == "Python's SSLContext is laid out in another way here"


def test_another_implementation(anew, monkeypatch):
    monkeypatch.setattr(sys.implementation, "name", "other")
    assert openssl.cannot() == "OpenSSL is out of reach: this is not CPython"


def test_a_library_that_is_not_there(anew, monkeypatch):
    import _ssl

    monkeypatch.setattr(_ssl, "__file__", "/no/such.so")
    assert openssl.cannot().startswith("OpenSSL is out of reach: /no/such.so")


def test_the_memory_of_a_bio_is_given_back_and_it_goes_on(anew):
    bio, data = ssl.MemoryBIO(), os.urandom(1 << 18)
    bio.write(data)
    assert not openssl.give_back(bio), "it is not empty"
    assert bio.read() == data
    assert openssl.give_back(bio)
    for size in (1, 1 << 18, 5000):
        bio.write(data[:size])
        assert bio.read() == data[:size]
        assert openssl.give_back(bio)


def test_memory_is_given_back_to_the_system():
    """In a process of its own: 100 of 256 KiB each."""
    code = (
        "import ssl, resource\n"
        "from tcp_proxy.runtime import openssl\n"
        "def held(): return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()\n"
        "bios = [ssl.MemoryBIO() for _ in range(100)]\n"
        "for bio in bios: bio.write(bytes(1 << 18)); bio.read()\n"
        "before = held()\n"
        "print(all(openssl.give_back(bio) for bio in bios), before - held() > 20 << 20)\n"
    )
    environ = {name: text for name, text in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


@pytest.mark.parametrize("shift", [-16, -8, 8, 16, 24])
def test_another_layout_of_memory_is_noticed(anew, monkeypatch, shift):
    openssl._library()  # which has had its trial

    def pointer(of):
        return openssl.ctypes.c_void_p.from_address(id(of) + object.__basicsize__ + shift).value or 0

    monkeypatch.setattr(openssl, "_pointer", pointer)
    assert not openssl.give_back(ssl.MemoryBIO())
