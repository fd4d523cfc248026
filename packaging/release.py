"""Makes a release: `make release VERSION=0.3.0`, in a clean tree of the branch that is released.

The version goes where it is said (tcp_proxy/__init__.py, CHANGELOG.md, debian/changelog, the manual pages), one commit and
one tag are made, and dist gets the wheel, the sources and, where dpkg-buildpackage is, the Debian package. Nothing leaves
this machine: the last line says what to push.
"""

import argparse
import datetime
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HOME = pathlib.Path(__file__).resolve().parent.parent
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
UNRELEASED = "## [Unreleased]\n"
DEBIAN = """tcp-proxy ({version}) unstable; urgency=medium

  * Release {version}; CHANGELOG.md says what is new.

 -- The tcp_proxy maintainers <maintainers@tcp-proxy.example>  {date:%a, %d %b %Y %H:%M:%S} +0000

"""


class CannotRelease(Exception):
    """One line for who releases."""


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=HOME, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRelease(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def known_version() -> str:
    found = re.search(r'__version__ = "(.*)"', (HOME / "tcp_proxy" / "__init__.py").read_text())
    assert found is not None
    return found[1]


def require(version: str) -> None:
    """Everything that can be refused, before anything is changed."""
    if not VERSION.fullmatch(version):
        raise CannotRelease(f"found the version {version!r}; wanted one like 0.3.0")
    if git("status", "--porcelain"):
        raise CannotRelease("there are changes that are not committed")
    if git("tag", "--list", f"v{version}"):
        raise CannotRelease(f"there is a tag v{version} already")
    known, wanted = (tuple(map(int, one.split("."))) for one in (known_version(), version))
    if wanted <= known:
        raise CannotRelease(f"{version} is not newer than {known_version()}")
    changes = (HOME / "CHANGELOG.md").read_text().split(UNRELEASED, 1)[1].split("\n## ", 1)[0]
    if not re.search(r"^- ", changes, re.MULTILINE):
        raise CannotRelease("CHANGELOG.md has no change under [Unreleased]")


def set_version(version: str, now: datetime.datetime) -> None:
    for path, old, new in (
        ("tcp_proxy/__init__.py", f'__version__ = "{known_version()}"', f'__version__ = "{version}"'),
        ("CHANGELOG.md", UNRELEASED, f"{UNRELEASED}\n## [{version}] - {now:%Y-%m-%d}\n"),
    ):
        file = HOME / path
        text = file.read_text()
        assert old in text, path
        file.write_text(text.replace(old, new, 1))
    debian = HOME / "debian" / "changelog"
    debian.write_text(DEBIAN.format(version=version, date=now) + debian.read_text())
    for page in ("make_man.py", "make_openapi.py"):
        command = [sys.executable, str(HOME / "docs" / page)]
        subprocess.run(command, cwd=HOME, env={**os.environ, "PYTHONPATH": str(HOME)}, check=True)


def build(version: str, dist: pathlib.Path) -> None:
    """Of what is committed, and nothing else."""
    dist.mkdir(exist_ok=True)
    name = f"tcp_proxy-{version}"
    sources = dist / f"{name}.tar.gz"
    git("archive", f"--prefix={name}/", "-o", str(sources), f"v{version}")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-xzf", sources, "-C", folder], check=True)
        tree = pathlib.Path(folder) / name
        wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(dist), str(tree)]
        subprocess.run(wheel, check=True)
        if shutil.which("dpkg-buildpackage"):
            shutil.rmtree(tree / "build", ignore_errors=True)
            subprocess.run(["dpkg-buildpackage", "--unsigned-source", "--unsigned-changes", "-b"], cwd=tree, check=True)
            for package in pathlib.Path(folder).glob("*.deb"):
                shutil.copy(package, dist)
        else:
            sys.stderr.write("no dpkg-buildpackage here: no Debian package\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a release.")
    parser.add_argument("version", help="the new one, like 0.3.0")
    parser.add_argument("--no-build", action="store_true", help="the commit and the tag alone")
    args = parser.parse_args()
    try:
        require(args.version)
        set_version(args.version, datetime.datetime.now(datetime.UTC))
        git("commit", "--all", "--quiet", "--message", f"Release {args.version}")
        git("tag", "--annotate", "--message", f"Release {args.version}", f"v{args.version}")
        if not args.no_build:
            build(args.version, HOME / "dist")
    except CannotRelease as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"v{args.version} is made: git push origin HEAD v{args.version}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
