"""TLS for tests of the data plane: contexts, and the other end of a connection with the face of a socket."""

import _ssl
import ctypes
import functools
import os
import socket
import ssl
import tempfile
from pathlib import Path

from kit.certificates import Authority, pem_of
from tcp_proxy.config.tls_model import Certificate
from tcp_proxy.dataplane.relay.tls_socket import TlsSocket
from tcp_proxy.runtime.openssl import _is_mapped


@functools.cache
def authority():
    return Authority()


def certificate(*names):
    """As a configuration has it."""
    names = names or ("localhost",)
    issued = authority().issue(*names)
    return Certificate("chain.pem", "", "", issued.chain, pem_of(issued.key), names, algorithm="EC secp256r1")


def loaded(context, issued):
    with tempfile.TemporaryDirectory() as folder:
        said = issued.write(Path(folder))
        context.load_cert_chain(said["chain"], said["key"])
    return context


def server_context(*names, version=None):
    context = loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), authority().issue(*(names or ("localhost",))))
    if version:
        context.maximum_version = version
    return context


def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority().pem)
    return context


@functools.cache
def contexts(version=None):
    """Made once: of a server, of its clients."""
    return server_context(version=version), client_context()


class TlsPeer:
    """A TlsSocket (`tls`) that a test may use as it uses a socket: non-blocking, and what is encrypted counts as sent."""

    def __init__(self, sock, *args):
        self.tls = TlsSocket(raw(sock), *args)
        self._is_ending = False

    def __getattr__(self, name):
        return getattr(self.tls, name)

    def send(self, data, flags=0):
        try:
            return self.tls.send(data, flags | socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            taken, self.tls._taken = self.tls._taken, 0
            if taken:
                return taken
            raise

    def sendall(self, data):
        while data:
            data = data[self.send(data) :]

    def recv(self, size, flags=0):
        if self._is_ending:
            self.shutdown(socket.SHUT_WR)
        elif self.has_unsent:
            self.flush()
        return self.tls.recv(size, flags)

    def shutdown(self, how):
        """At the latest with the next recv that finds room."""
        try:
            self.tls.shutdown(how)
            self._is_ending = False
        except BlockingIOError:
            self._is_ending = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def raw(sock):
    """As the data plane has it: without Python's own layer."""
    return socket.SocketType(sock.family, socket.SOCK_STREAM, 0, sock.detach())


def shake(one, other):
    """Both handshakes, to their end."""
    done = [False, False]
    for _ in range(100):
        for index, sock in enumerate((one, other)):
            done[index] = done[index] or sock.handshake()
        if all(done):
            return
    raise AssertionError(f"no handshake: {done}")


def tls_pair(near, far, version=None):
    """`far` becomes the server's end; both are non-blocking and connected. Gives (client's end, server's end)."""
    server, client = contexts(version)
    ends = TlsPeer(near, client, False, "localhost"), TlsPeer(far, server, True)
    for end in ends:
        os.set_blocking(end.fileno(), False)
    shake(*ends)
    return ends


class KeyUpdates:
    """Messages of TLS 1.3 that Python's ssl cannot ask for: the next keys. `peer`: a TlsSocket after its handshake."""

    def __init__(self, peer):
        openssl = ctypes.CDLL(getattr(_ssl, "__file__", None))  # None: built into the program
        self._ask = openssl.SSL_key_update
        self._ask.argtypes = ctypes.c_void_p, ctypes.c_int
        self._peer = peer
        # An SSL is the second member of CPython's PySSLSocket (3.11 to 3.14).
        self._ssl = ctypes.c_void_p.from_address(
            id(peer.stream._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
        ).value
        assert _is_mapped(self._ssl), "Python's SSLSocket is laid out in another way here"

    def records(self, count, between=b"", is_answered=False):
        """The bytes of so many, each followed by this; `is_answered`: the other end is to have new keys too."""
        for _ in range(count):
            assert self._ask(self._ssl, int(is_answered)) == 1
            self._peer.stream.do_handshake()
            if between:
                self._peer.stream.write(between)
        return self._peer._unsent.read()
