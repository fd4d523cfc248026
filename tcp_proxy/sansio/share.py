"""How much a slice of long work may do before others have their turn.

Pure. 250 targets take 5 to 20 ms; an app counts as one more, or as the caller says.
"""

AT_ONCE = 250  # targets


class Share:
    """Over whatever the work goes through: a thousand apps of twenty targets are as many targets as one of 20,000."""

    def __init__(self, size: int = AT_ONCE) -> None:
        self._size = size
        self._used = 0

    def __repr__(self) -> str:
        return f"<Share {self._used} of {self._size} used>"

    def is_used_up(self, count: int = 1) -> bool:
        """By so many more. If so the next slice has a share of its own."""
        self._used += count
        if self._used < self._size:
            return False
        self._used = 0
        return True
