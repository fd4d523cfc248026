"""The frames of a stream of bytes: of each its length in four bytes, then the message. Pure."""

from collections.abc import Iterator


def whole(buffer: bytearray) -> Iterator[bytes]:
    """The messages that are there as a whole; they leave the buffer, one as it is asked for."""
    while len(buffer) >= 4:
        end = 4 + int.from_bytes(buffer[:4], "little")
        if len(buffer) < end:
            return
        message = bytes(buffer[4:end])
        del buffer[:end]
        yield message
