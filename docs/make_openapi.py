"""Makes tcp_proxy/control/api/openapi.json, the document that the management API serves at /spec/v1/.

make docs                                              write it
PYTHONPATH=. python docs/make_openapi.py --check       exit 1 if it is not what would be written
"""

import json
import pathlib
import sys

from tcp_proxy.control.api.app import make_app
from tcp_proxy.control.api.link import Link

DOCUMENT = pathlib.Path(__file__).resolve().parent.parent / "tcp_proxy" / "control" / "api" / "openapi.json"


def document() -> str:
    """Nobody is asked for it, so a link to nobody will do."""
    app = make_app(Link(lambda _message: None, lambda: None))
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: make_openapi.py [--check]\n")
        return 2
    made = document()
    if not arguments:
        DOCUMENT.write_text(made)
    elif not DOCUMENT.exists() or DOCUMENT.read_text() != made:
        sys.stderr.write("openapi.json is not what the API serves: run make docs\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
