"""Makes the manual pages in packaging/man: of both commands from their own parsers, of the file from the published schema.

make docs                             write them
python docs/make_man.py --check       exit 1 if they are not what would be written
"""

import argparse
import json
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

from make_config_md import SCHEMA, Schema, needed, sections, takes

from tcp_proxy import __version__, cli
from tcp_proxy.ctl import main as ctl

HOME = pathlib.Path(__file__).resolve().parent.parent
FOLDER, CHANGELOG = HOME / "packaging" / "man", HOME / "CHANGELOG.md"

SIGNALS = {
    "SIGTERM, SIGINT": "No new clients; running sessions have shutdown_grace seconds. A second one ends at once.",
    "SIGHUP, SIGUSR1": "The configuration is read again and applied, all of it or nothing.",
    "SIGUSR2": "The access log is opened again, for logrotate(8).",
}
STATUSES = {
    "0": "A clean end.",
    "1": "It cannot start; one line says why.",
    "2": "Wrong usage or configuration, a missing file included.",
    "130, 143": "A second SIGINT or SIGTERM ended it at once.",
}
CTL_STATUSES = {
    "0": "Done.",
    "1": "The proxy refused; standard error says why.",
    "2": "Wrong usage, or a file that cannot be read.",
    "3": "The proxy cannot be reached.",
    "130": "Ctrl-C before it was done.",
}
ENVIRONMENT = {
    "TCP_PROXY_API": "Where the management API is, as --api.",
    "TCP_PROXY_TOKEN_FILE": "The file with its token, as --token-file.",
    "NO_COLOR": "If it is set, and not empty, there are no colours.",
    "COLUMNS, LINES": "The size of the terminal, instead of what it says itself.",
}


def released() -> str:
    """When this version was, as the changelog has it."""
    found = re.search(rf"^## \[{re.escape(__version__)}\] - (\S+)$", CHANGELOG.read_text(), re.MULTILINE)
    return found[1] if found else "unreleased"


def roff(text: str) -> str:
    """Text as it is: nothing in it is an order to the formatter."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "")
    return re.sub(r"^\.", r"\\&.", re.sub(r"\[([^]]*)\]\(([^)]*)\)", r"\1", text), flags=re.MULTILINE)


def header(name: str, section: int, what: str) -> list[str]:
    title = f'.TH {roff(name.upper())} {section} "{released()}" "tcp_proxy {__version__}" "tcp_proxy"'
    return [
        '.\\" Made by docs/make_man.py; change what it is made of, then run make docs.', title,
        ".SH NAME", f"{roff(name)} \\- {roff(what)}",
    ]  # fmt: skip


def paragraphs(title: str, *texts: str) -> Iterator[str]:
    yield f".SH {title}"
    for number, text in enumerate(texts):
        if number:
            yield ".PP"
        yield roff(text)


def entries(title: str, found: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for name, text in found.items():
        yield from (".TP", f".B {roff(name)}", roff(text))


def options(actions: Iterable[argparse.Action]) -> Iterator[str]:
    for action in actions:
        if action.help == argparse.SUPPRESS:
            continue
        value = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())
        value = value or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
        takes_one = action.nargs != 0
        named = ", ".join(f"\\fB{roff(name)}\\fR" for name in action.option_strings)
        shown = f"\\fI{roff(value)}\\fR" if takes_one or not named else ""
        help_text = (action.help or "").replace("%(default)s", str(action.default))
        yield from (".TP", " ".join(filter(None, (named, shown))), roff(help_text))


def program_page() -> list[str]:
    parser = cli.make_parser()
    lines = header("tcp-proxy", 1, "a TCP load balancer and failover proxy")
    lines += [
        ".SH SYNOPSIS", ".B tcp\\-proxy", "[\\fIoptions\\fR] [\\fIconfig\\fR]",
        *paragraphs(
            "DESCRIPTION", str(parser.description),
            "It reads one JSON file, tcp-proxy.json(5); config.json in the current folder unless another one is named.",
        ),
    ]  # fmt: skip
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if actions:
            lines += [f".SH {roff((group.title or '').upper())}", *options(actions)]
    lines += [*entries("SIGNALS", SIGNALS), *entries("EXIT STATUS", STATUSES)]
    return [*lines, ".SH SEE ALSO", ".BR tcp\\-proxy.json (5),", ".BR tcp\\-proxy\\-ctl (1)"]


def ctl_page() -> list[str]:
    parser = ctl.make_parser({})
    lines = header("tcp-proxy-ctl", 1, "look at a running tcp-proxy, and change it")
    lines += [
        ".SH SYNOPSIS", ".B tcp\\-proxy\\-ctl", "[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]",
        *paragraphs("DESCRIPTION", str(parser.description)), ".SH OPTIONS", "They stand before or after the command.",
        *options(action for action in parser._actions if action.option_strings and action.dest != "help"),
        ".SH COMMANDS",
    ]  # fmt: skip
    for command in ctl.COMMANDS.values():
        own = argparse.ArgumentParser(add_help=False)
        for argument in command.arguments:
            own.add_argument(*argument.names, **argument.options)
        lines += [f".SS {roff(command.name)}", roff(command.help.capitalize() + "."), *options(own._actions)]
    lines += [*entries("ENVIRONMENT", ENVIRONMENT), *entries("EXIT STATUS", CTL_STATUSES)]
    return [*lines, ".SH SEE ALSO", ".BR tcp\\-proxy (1)"]


def file_page() -> list[str]:
    schema: Schema = json.loads(SCHEMA.read_bytes())
    lines = header("tcp-proxy.json", 5, "the configuration of tcp-proxy")
    example = '{\n  "apps": [\n    { "name": "web", "ports": [8080], "targets": ["192.0.2.1:80", "192.0.2.2:80"] }\n  ]\n}'
    lines += [
        *paragraphs("DESCRIPTION", schema["description"], "The smallest file that does something:"),
        ".PP", ".nf", roff(example), ".fi", ".PP", roff("tcp-proxy --init writes one to begin with."),
    ]  # fmt: skip
    for title, part in sections(schema):
        lines.append(f'.SH "{roff(title.upper())}"')
        if title != "Top level":
            lines.append(roff(part["description"]))
        for name, key in part["properties"].items():
            default = "needed" if name in needed(part) else f"default {json.dumps(key['default'])}"
            unit = f", in {key['x-unit']}" if "x-unit" in key else ""
            lines += [".TP", f".B {roff(name)}", roff(f"{takes(key)}{unit}; {default}."), roff(key["description"])]
    return [*lines, ".SH SEE ALSO", ".BR tcp\\-proxy (1)"]


PAGES = {"tcp-proxy.1": program_page, "tcp-proxy-ctl.1": ctl_page, "tcp-proxy.json.5": file_page}


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: make_man.py [--check]\n")
        return 2
    status = 0
    for name, page in PAGES.items():
        path, made = FOLDER / name, "\n".join(page()) + "\n"
        if not arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made)
        elif not path.exists() or path.read_text() != made:
            sys.stderr.write(f"{path.name} is not what its sources say: run make docs\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
