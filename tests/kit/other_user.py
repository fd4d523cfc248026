"""The program, started by root, in processes that are a plain user's: that one has to reach Python, and us.

Where Python or the checkout are in a folder that only root may look into, the program runs in a mount namespace of its own
in which that folder has nothing else in it, and is open.
"""

import contextlib
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile

import pytest

from kit.proxy import PROGRAM, ROOT

NOBODY = "nobody"
OPEN = """
set -e
hidden=$1 number=0; shift
for keep in $1; do
    number=$((number + 1)); mkdir -p "$TMPDIR/$number"; mount --bind "$keep" "$TMPDIR/$number"
done
mount -t tmpfs -o mode=755 none "$hidden"
number=0
for keep in $1; do
    number=$((number + 1)); mkdir -p "$keep"; mount --bind "$TMPDIR/$number" "$keep"; umount "$TMPDIR/$number"
done
shift
exec "$@"
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


def _hidden(path):
    """The first folder on the way there that others may not look into."""
    for folder in reversed(pathlib.Path(path).parents):
        if not os.stat(folder).st_mode & stat.S_IXOTH:
            return folder
    return None


def program(folder):
    """The command line. `folder`: for whatever it needs besides."""
    needed = dict.fromkeys(os.path.realpath(path) for path in (sys.base_prefix, sys.prefix, ROOT))
    hidden = {_hidden(path + "/x") for path in needed} - {None}
    if not hidden:
        return PROGRAM
    if len(hidden) > 1 or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("a plain user cannot reach this Python")
    (top,) = hidden
    keep = [path for path in needed if pathlib.Path(path).is_relative_to(top)]
    return ("env", f"TMPDIR={folder}", "unshare", "--mount", "sh", "-c", OPEN, "sh", str(top), " ".join(keep), *PROGRAM)


@contextlib.contextmanager
def open_folder(user=NOBODY):
    """A folder that a plain user can reach, and write to."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tcp_proxy-test-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        (folder / "mounts").mkdir()
        (folder / "own").mkdir()
        shutil.chown(folder / "own", user)
        yield folder
    finally:
        shutil.rmtree(folder)
