"""What OpenSSL can and Python's ssl module cannot: the key of session tickets, the ciphers of TLS 1.3, to name those who may
sign a client's certificate, and to give the memory of a MemoryBIO back, which keeps the size of the most that it ever held.

The functions are those of the very library that `_ssl` is linked to: they are looked up through `_ssl` itself. A context's
SSL_CTX is the first member of CPython's PySSLContext (3.11 to 3.14), a MemoryBIO's BIO of its PySSLMemoryBIO.
Before that is believed of a process it is tried: the pointer must lead into memory of ours, OpenSSL must see there the
options that Python sees, after a change too, and a key that was set must be read back; a BIO must be of the kind mem, and
OpenSSL must see as many bytes in it as Python has written. Where one of these is not so (another build of Python), `cannot`
says why, and no memory is given back.

Always true: no pointer is given to OpenSSL that has not passed the trial of its process (test_another_layout_is_noticed).
"""

import contextlib
import ctypes
import functools
import ssl
import sys
from collections.abc import Sequence
from typing import Any

TRIM_AFTER = 4 << 20  # bytes given back: then the system gets what is free
KEY_SIZE = 80  # of a ticket: its name (16), HMAC-SHA256 (32), AES-256 (32)

_SET_CACHE_MODE = 44  # SSL_CTRL_SET_SESS_CACHE_MODE; SSL_SESS_CACHE_OFF is 0
_GET_TICKET_KEYS, _SET_TICKET_KEYS = 58, 59  # SSL_CTRL_…_TLSEXT_TICKET_KEYS
_GET_BUF_MEM, _SET_BUF_MEM, _BIO_CLOSE = 115, 114, 1  # BIO_C_GET_BUF_MEM_PTR, BIO_C_SET_BUF_MEM
_POINTER = ctypes.sizeof(ctypes.c_void_p)


def cannot() -> str:
    """Why none of this can be done in this process; "" when it can."""
    return _library()[1]


def set_ticket_key(context: ssl.SSLContext, key: bytes) -> bool:
    """Have tickets made and read with it, instead of one that each context draws for itself. Whether that can be done."""
    library, why = _library()
    return not why and bool(_control(library, _pointer(context), _SET_TICKET_KEYS, key))


def remember_no_sessions(context: ssl.SSLContext) -> bool:
    """Nor without tickets: clients of TLS 1.2 take a session up by its number, as long as the server has it. Whether that
    can be done."""
    library, why = _library()
    if not why:
        library.SSL_CTX_ctrl(_pointer(context), _SET_CACHE_MODE, 0, None)
    return not why


def set_ciphersuites(context: ssl.SSLContext, names: Sequence[str]) -> bool:
    """Of TLS 1.3, the most wanted first. Whether that can be done."""
    library, why = _library()
    return not why and library.SSL_CTX_set_ciphersuites(_pointer(context), ":".join(names).encode()) == 1


def name_authorities(context: ssl.SSLContext, path: str) -> bool:
    """Have clients told who may sign their certificate: those in this file. Whether that can be done."""
    library, why = _library()
    names = None if why else library.SSL_load_client_CA_file(path.encode())
    if names:
        library.SSL_CTX_set_client_CA_list(_pointer(context), names)  # which owns the names from here on
    return bool(names)


def give_back(bio: ssl.MemoryBIO) -> bool:
    """Free the memory of one that is empty. Whether that was done."""
    library = _library_with_memory()
    if library is None or bio.pending:
        return False
    _heap().freed(size := _renew(library, _pointer(bio)))
    return size >= 0


class _Heap:
    """What is freed in the middle of the heap stays with the process until glibc is told to look (0.1 to 0.2 ms a MB)."""

    def __init__(self) -> None:
        self._freed = 0
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def freed(self, size: int) -> None:
        self._freed += size
        if self._freed > TRIM_AFTER and self._trim is not None:
            self._freed = 0
            self._trim(0)


@functools.cache
def _heap() -> _Heap:
    return _Heap()


@functools.cache
def _library_with_memory() -> Any:
    """None: its MemoryBIO is not what we know."""
    library, why = _library()
    if why:
        return None
    try:
        library.BIO_ctrl.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p
        library.BIO_ctrl.restype = ctypes.c_long
        library.BIO_ctrl_pending.argtypes = (ctypes.c_void_p,)
        library.BIO_ctrl_pending.restype = ctypes.c_size_t
        library.BUF_MEM_new.restype = library.BIO_s_mem.restype = ctypes.c_void_p
        return library if _is_memory(library) else None
    except AttributeError:
        return None


def _is_memory(library: Any) -> bool:
    bio = ssl.MemoryBIO()
    pointer = _pointer(bio)
    if type(bio).__basicsize__ < object.__basicsize__ + _POINTER or not _is_mapped(pointer):
        return False
    if library.BIO_s_mem() not in (ctypes.c_void_p * 2).from_address(pointer):  # a BIO names its kind before all else
        return False
    data = bytes(range(250))
    bio.write(data)
    if library.BIO_ctrl_pending(pointer) != len(data) or bio.read() != data:
        return False
    bio.write(data)
    held = _held(library, pointer)
    if not _is_mapped(held) or _BufMem.from_address(held).length != len(data):
        return False
    if bio.read() != data or not len(data) <= _renew(library, pointer) <= 1 << 16:
        return False
    bio.write(data)
    return bio.read() == data and not bio.pending


class _BufMem(ctypes.Structure):
    _fields_ = (("length", ctypes.c_size_t), ("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


def _held(library: Any, pointer: int) -> int:
    held = ctypes.c_void_p()
    return (held.value or 0) if library.BIO_ctrl(pointer, _GET_BUF_MEM, 0, ctypes.byref(held)) == 1 else 0


def _renew(library: Any, pointer: int) -> int:
    """How many bytes were freed; -1: none could be."""
    held, new = _held(library, pointer), library.BUF_MEM_new()
    size: int = _BufMem.from_address(held).size if held else 0
    return size if new and library.BIO_ctrl(pointer, _SET_BUF_MEM, _BIO_CLOSE, new) == 1 else -1


@functools.cache
def _library() -> tuple[Any, str]:
    """The library, and why it cannot be used."""
    try:
        library = _functions()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        return library, _trial(library, context)
    except (OSError, AttributeError, ImportError) as error:
        return None, f"OpenSSL is out of reach: {error}"


def _functions() -> Any:
    import _ssl  # noqa: PLC0415

    if sys.implementation.name != "cpython":
        raise ImportError("this is not CPython")
    library = ctypes.CDLL(getattr(_ssl, "__file__", None))  # None: built into the program
    library.SSL_CTX_ctrl.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p
    library.SSL_CTX_ctrl.restype = ctypes.c_long
    library.SSL_CTX_get_options.argtypes = (ctypes.c_void_p,)
    library.SSL_CTX_get_options.restype = ctypes.c_uint64
    library.SSL_load_client_CA_file.argtypes = (ctypes.c_char_p,)
    library.SSL_load_client_CA_file.restype = ctypes.c_void_p
    library.SSL_CTX_set_client_CA_list.argtypes = ctypes.c_void_p, ctypes.c_void_p
    library.SSL_CTX_set_client_CA_list.restype = None
    library.SSL_CTX_set_ciphersuites.argtypes = ctypes.c_void_p, ctypes.c_char_p
    return library


def _trial(library: Any, context: ssl.SSLContext) -> str:
    strange = "Python's SSLContext is laid out in another way here"
    if type(context).__basicsize__ < object.__basicsize__ + _POINTER:
        return strange
    pointer = _pointer(context)
    if not _is_mapped(pointer):
        return strange
    for option in (0, ssl.OP_NO_TICKET, ssl.OP_NO_RENEGOTIATION):
        context.options ^= option
        if library.SSL_CTX_get_options(pointer) & 0xFFFFFFFF != context.options & 0xFFFFFFFF:
            return strange
    key = bytes(range(KEY_SIZE))
    found = ctypes.create_string_buffer(KEY_SIZE)
    if not _control(library, pointer, _SET_TICKET_KEYS, key) or not _control(library, pointer, _GET_TICKET_KEYS, found):
        return "this OpenSSL takes no key for tickets"
    return "" if found.raw == key else "this OpenSSL takes no key for tickets"


def _control(library: Any, pointer: int, what: int, data: Any) -> int:
    result: int = library.SSL_CTX_ctrl(pointer, what, KEY_SIZE, data)
    return result


def _pointer(of: ssl.SSLContext | ssl.MemoryBIO) -> int:
    return ctypes.c_void_p.from_address(id(of) + object.__basicsize__).value or 0


def _is_mapped(pointer: int) -> bool:
    """Whether it leads into readable and writable memory, with room for an SSL_CTX."""
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:
        for line in maps:
            span, rights = line.split()[:2]
            first, last = (int(end, 16) for end in span.split("-"))
            if first <= pointer and pointer + 1024 <= last:
                return rights.startswith("rw")
    return False
