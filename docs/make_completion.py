"""Makes packaging/completion: what bash, zsh and fish are told about TAB behind our commands, as argcomplete words it.

.venv/bin/python docs/make_completion.py       when argcomplete has another wording, or there is another command
"""

import pathlib
import sys

import argcomplete

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "packaging" / "completion"
COMMANDS = ("tcp-proxy", "tcp-proxy-ctl")


def main(arguments: list[str]) -> int:
    if arguments:
        sys.stderr.write("usage: make_completion.py\n")
        return 2
    for command in COMMANDS:
        for shell, name in (("bash", command), ("zsh", f"_{command}"), ("fish", f"{command}.fish")):
            path = FOLDER / shell / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(argcomplete.shellcode([command], shell=shell).strip() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
