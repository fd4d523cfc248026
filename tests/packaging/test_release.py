"""`make release` in a clone: what it refuses, and that the version stands everywhere, in one commit with one tag."""

import os
import re
import subprocess
import sys

import pytest

from kit.programs import need
from tcp_proxy import __version__
from tests.packaging.conftest import HOME, copy_of_the_tree

NEXT = "97.0.1"


class Clone:
    def __init__(self, folder):
        self.folder = copy_of_the_tree(folder)
        for words in ("init -q", "add -A", "commit -qm all"):
            self.git(*words.split())

    def git(self, *words):
        who = ["-c", "user.name=x", "-c", "user.email=x@y.example"]
        done = subprocess.run([need("git"), *who, *words], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def release(self, *words):
        name = {f"GIT_{who}_{what}": "x@y.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        command = [sys.executable, "packaging/release.py", "--no-build", *words]
        return subprocess.run(
            command, cwd=self.folder, env={**os.environ, **name}, capture_output=True, text=True, timeout=100, check=False
        )  # fmt: skip

    def read(self, name):
        return (self.folder / name).read_text()


@pytest.fixture
def clone(tmp_path):
    clone = Clone(tmp_path / "clone")
    changelog = clone.folder / "CHANGELOG.md"
    changelog.write_text(clone.read("CHANGELOG.md").replace("## [Unreleased]\n", "## [Unreleased]\n\n- Something.\n", 1))
    clone.git("commit", "-aqm", "a change")
    return clone


def test_the_version_stands_everywhere_and_is_tagged(clone):
    done = clone.release(NEXT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"v{NEXT} is made: git push origin HEAD v{NEXT}\n"
    assert f'__version__ = "{NEXT}"' in clone.read("tcp_proxy/__init__.py")
    head = rf"^## \[Unreleased\]\n\n## \[{NEXT}\] - \d{{4}}-\d\d-\d\d\n\n- Something.$"
    assert re.search(head, clone.read("CHANGELOG.md"), re.MULTILINE)
    assert clone.read("debian/changelog").startswith(f"tcp-proxy ({NEXT}) unstable")
    assert f'"tcp_proxy {NEXT}"' in clone.read("packaging/man/tcp-proxy.1")
    assert f'"version": "{NEXT}"' in clone.read("tcp_proxy/control/api/openapi.json")
    assert clone.git("describe", "--tags", "HEAD") == f"v{NEXT}"
    assert clone.git("status", "--porcelain") == ""


def test_what_is_refused_changes_nothing(clone):
    before = clone.git("rev-parse", "HEAD")
    for version, why in (("1.2", "wanted one like"), (__version__, "is not newer"), ("0.0.1", "is not newer")):
        done = clone.release(version)
        assert (done.returncode, why in done.stderr, done.stderr.count("\n")) == (1, True, 1), done
    (clone.folder / "new").write_text("x")
    assert "not committed" in clone.release(NEXT).stderr
    (clone.folder / "new").unlink()
    clone.git("tag", f"v{NEXT}")
    assert f"there is a tag v{NEXT} already" in clone.release(NEXT).stderr
    clone.git("checkout", "-q", "HEAD~1", "--", "CHANGELOG.md")
    clone.git("commit", "-qm", "as before", "--allow-empty")
    text = re.sub(r"(## \[Unreleased\]\n).*?(?=## \[)", r"\1\n", clone.read("CHANGELOG.md"), flags=re.DOTALL)
    (clone.folder / "CHANGELOG.md").write_text(text)
    clone.git("commit", "-qam", "nothing new", "--allow-empty")
    assert "has no change under [Unreleased]" in clone.release("98.0.0").stderr
    assert clone.git("log", "--format=%s", f"{before}..") == "nothing new\nas before"


def test_this_version_is_in_the_changelog():
    assert f"\n## [{__version__}] - " in (HOME / "CHANGELOG.md").read_text()
