r"""Bytes as text that a configuration file can hold, and that a person can read: \r \n \t \0 \\ \xHH.

Pure. Everything that is not an escape stands for itself, in UTF-8.
"""

import re

_SIMPLE = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
_NAMED = {value[0]: "\\" + name for name, value in _SIMPLE.items()}
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|([rnt0\\])|)", re.DOTALL)


def decoded(text: str) -> bytes:
    """The bytes that a text with escapes stands for. Raises ValueError."""
    parts, end = [], 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[end : match.start()].encode())
        end = match.end()
        if match[1]:
            parts.append(bytes.fromhex(match[1]))
        elif match[2]:
            parts.append(_SIMPLE[match[2]])
        else:
            raise ValueError(rf"{text[match.start() : match.start() + 2]} is no escape; known are \r \n \t \0 \\ \xHH")
    return b"".join(parts) + text[end:].encode()


def escaped(data: bytes | bytearray, most: int = 60) -> str:
    """For a log line: printable ASCII as it is, the rest escaped; no more than so many bytes of it."""
    text = "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else _name(byte) for byte in data[:most])
    return f'"{text}"' + ("…" if len(data) > most else "")


def _name(byte: int) -> str:
    return _NAMED.get(byte, f"\\x{byte:02x}")
