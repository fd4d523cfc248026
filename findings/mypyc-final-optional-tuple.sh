#!/bin/bash
# mypyc: a constant that is a tuple or None is C that does not compile, where another function knows that it is a tuple.
#
# mypy 2.4.1 with mypyc, CPython 3.11, gcc 12.
#
# Guessed before: what `mypy --strict` finds nothing in, mypyc compiles or refuses with a line number. Seen: mypyc itself says
# nothing either; gcc does, in C that was made: "incompatible types when assigning to type 'tuple_T2OI' from type 'PyObject *'".
# A Final lives in a static of C whose type is that of the declaration (an object, for there may be None); after an `assert`
# in a function it is read as the tuple that it must be now, without being unpacked. Without Final, or with the value taken
# into a local name first, the same text compiles and runs. Needs gcc and Python's headers; about a minute.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'mypy[mypyc]==2.4.1' setuptools==80.9.0

write() {  # name, declaration, what is returned
    mkdir "$1"
    cat >"$1/one.py" <<PY
from typing import Final


def made(text: str) -> tuple[str, int] | None:
    return (text, len(text)) if text else None


$2 = made("abc")


def first() -> str:
$3
PY
    venv/bin/mypy --strict --no-error-summary "$1/one.py" || { echo "mypy refuses $1"; exit 1; }
    (cd "$1" && ../venv/bin/mypyc one.py >log 2>&1)
}

asserted='    assert FOUND is not None
    return FOUND[0]'
named='    found = FOUND
    assert found is not None
    return found[0]'

if write final "FOUND: Final" "$asserted"; then
    echo "CHANGED: a Final that is a tuple or None compiles"
    exit 1
fi
grep -q "incompatible types when assigning to type .tuple_T2OI. from type .PyObject" final/log || { echo "CHANGED:"; cat final/log; exit 1; }
echo "as a Final: $(grep -o 'error: incompatible types.*' final/log | head -1)"

write plain "FOUND" "$asserted"
(cd plain && ../venv/bin/python -c 'import one; assert one.__file__.endswith(".so"), one; assert one.first() == "abc"')
echo "without Final: compiles, and runs"

write local "FOUND: Final" "$named"
(cd local && ../venv/bin/python -c 'import one; assert one.__file__.endswith(".so"), one; assert one.first() == "abc"')
echo "taken into a local name first: compiles, and runs"
