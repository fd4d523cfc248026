"""Locks in memory that processes share: robust mutexes of POSIX, which the kernel releases when their holder dies.

Any thread of any process that has mapped the memory. A lock is held for a microsecond and never over a system call. To take
one that is free is two calls of the C library without a system call; it holds on to Python's own lock meanwhile, so nothing
waits for it there: who meets another holder waits without Python's lock, at most WAIT_MOST seconds, for a process that was
stopped in that microsecond (SIGSTOP, a debugger) may hold it for ever. From then on, until it is free again, nobody waits
for it, and `take` says False: what it guards has to stay whole, though not exact, when two change it at the same time.

Imported by whoever needs it only: it loads ctypes.
"""

import ctypes
import errno
import mmap
import time
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_PYTHONAPI, CFuncPtr
from collections.abc import Callable
from typing import Any, cast

SIZE = 64  # bytes of a lock: a cache line; glibc takes 40 or 48
WAIT_MOST = 0.05  # seconds
_ROBUST, _SHARED = 1, 1

_held = ctypes.PyDLL(None)  # keeps Python's lock during a call: for what never waits
_released = ctypes.CDLL(None)


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _function(library: ctypes.CDLL, name: str, *arguments: Any) -> Callable[..., int]:
    function = getattr(library, "pthread_mutex" + name)
    function.argtypes, function.restype = arguments, ctypes.c_int
    return cast("Callable[..., int]", function)


class _Code(CFuncPtr):
    """Gives an int, which is what is not said: a type that is said is looked for at each call, a third of its time."""

    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI


class _Nothing(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI
    _restype_ = None


# Of `ProcessLocks.at`. Without types of arguments what byref() has made is passed as it is.
try_lock = cast("Callable[[Any], int]", _Code(("pthread_mutex_trylock", _held)))
unlock = cast("Callable[[Any], None]", _Nothing(("pthread_mutex_unlock", _held)))
_make_consistent = _function(_held, "_consistent", ctypes.c_void_p)
_timed = _function(_released, "_timedlock", ctypes.c_void_p, ctypes.POINTER(_Time))


def make_locks(memory: mmap.mmap, begin: int, count: int) -> None:
    """In the process that makes the memory, before another one has it: so many locks from this byte on."""
    attributes = ctypes.create_string_buffer(SIZE)
    _function(_held, "attr_init", ctypes.c_void_p)(attributes)
    _function(_held, "attr_setpshared", ctypes.c_void_p, ctypes.c_int)(attributes, _SHARED)
    _function(_held, "attr_setrobust", ctypes.c_void_p, ctypes.c_int)(attributes, _ROBUST)
    init = _function(_held, "_init", ctypes.c_void_p, ctypes.c_void_p)
    window = (ctypes.c_char * (count * SIZE)).from_buffer(memory, begin)
    for number in range(count):
        init(ctypes.addressof(window) + number * SIZE, attributes)


class ProcessLocks:
    """Those from `begin` on, which `make_locks` has made."""

    def __init__(self, memory: mmap.mmap, begin: int, count: int) -> None:
        self._window = (ctypes.c_char * (count * SIZE)).from_buffer(memory, begin)  # keeps the memory mapped
        self.at = [ctypes.byref(self._window, number * SIZE) for number in range(count)]  # for try_lock and unlock
        self.stuck: set[int] = set()

    def __repr__(self) -> str:
        return f"<ProcessLocks {len(self.at)}, {len(self.stuck)} stuck>"

    def take(self, number: int) -> bool:
        """Whether it is ours, until `give`; else it is held by somebody who does not go on."""
        code = try_lock(self.at[number])
        if code or self.stuck:
            return self.take_late(number, code)
        return True

    def give(self, number: int) -> None:
        unlock(self.at[number])

    def take_late(self, number: int, code: int) -> bool:
        """What `take` does where `try_lock` said this code, or some lock is `stuck`."""
        at = self.at[number]
        if code == errno.EBUSY and number not in self.stuck:
            whole, part = divmod(time.clock_gettime(time.CLOCK_REALTIME) + WAIT_MOST, 1)
            code = _timed(at, _Time(int(whole), int(part * 1e9)))
        if code == errno.EOWNERDEAD:
            _make_consistent(at)  # a word is written, or not: nothing is half done
            code = 0
        if code:
            self.stuck.add(number)
            return False
        self.stuck.discard(number)
        return True
