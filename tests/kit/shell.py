"""Shell scripts, as users write them for checks and triggers."""


def write_script(path, body="", mode=0o755):
    """The path, as text; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(mode)
    return str(path)
