"""Numbers in sentences. Pure."""


def counted(number: int, noun: str, many: str = "") -> str:
    """1 session, 2 sessions; `many` where the plural has no s at its end."""
    return f"{number} {noun if number == 1 else many or f'{noun}s'}"
