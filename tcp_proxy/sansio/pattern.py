"""What is looked for in an answer: text, or a regular expression of a user's.

Pure. The expression is RE2's: its time grows with what is searched, and with nothing else. Python's own tries every way
to match, and holds up all threads meanwhile: `(a+)+$` and thirty letters would end all health checks, elections and
answers of the API (test_an_expression_that_could_match_in_many_ways).
"""

from collections.abc import Callable

Finder = Callable[[bytearray], bytes | None]  # what was found first; None: nothing yet


def text(wanted: bytes) -> Finder:
    return lambda heard: wanted if wanted in heard else None


def regex(pattern: str) -> Finder:
    """Raises ValueError."""
    import re2  # noqa: PLC0415  for the few that need it

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes, not characters
    options.log_errors = False
    try:
        search = re2.compile(pattern.encode(), options).search
    except re2.error as error:
        raise ValueError(f"not a regular expression of RE2: {_words(error)}") from None

    def find(heard: bytearray) -> bytes | None:
        found = search(heard)
        return None if found is None else bytes(found[0])

    return find


def _words(error: Exception) -> str:
    words = error.args[0] if error.args else ""
    return words.decode("latin-1") if isinstance(words, bytes) else str(words)
