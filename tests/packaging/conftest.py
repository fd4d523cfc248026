"""The wheel of this tree, built and installed as users do, once for all tests."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from kit.programs import need
from tcp_proxy import __version__

HOME = pathlib.Path(__file__).resolve().parents[2]


DEBIAN = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}  # its Python, not ours


# What tools and builds leave in a tree, at any depth and at its top.
LEFT_BY_TOOLS = ("__pycache__", "*.so", "*.egg-info", ".*_cache", ".hypothesis")
LEFT_AT_THE_TOP = {".git", ".venv", ".pybuild", "build", "dist", "tmp"}


def copy_of_the_tree(folder):
    """As it is now: nothing is built in the tree itself. Without git, which who has an archive of it may not have."""
    left = shutil.ignore_patterns(*LEFT_BY_TOOLS)

    def ignored(place, names):
        return left(place, names) | (LEFT_AT_THE_TOP if pathlib.Path(place) == HOME else set())

    shutil.copytree(HOME, folder, symlinks=True, ignore=ignored, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """By setuptools as it is here: nothing is fetched."""
    try:
        import setuptools.command.bdist_wheel  # noqa: F401
    except ImportError:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("setuptools is too old to build a wheel by itself")
    return built(tmp_path_factory.mktemp("wheel"), 120)


def built(folder, seconds, **environment):
    tree = copy_of_the_tree(folder / "tree")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, tree], env={**os.environ, **environment}, check=True, timeout=seconds)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """A prefix with the package in it, as /usr/local has it after an installation; `environment` is for who uses it."""
    return installation_of(wheel, tmp_path_factory.mktemp("prefix"))


def installation_of(wheel, prefix):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    subprocess.run([*pip, "--no-compile", "--prefix", prefix, wheel], check=True, timeout=120)
    return Installed(prefix)


class Installed:
    def __init__(self, prefix):
        self.prefix = prefix
        (packages,) = prefix.glob("lib/python*/site-packages")
        self.environment = {**os.environ, "PYTHONPATH": str(packages), "PATH": f"{prefix}/bin:/usr/bin:/bin"}

    def run(self, *words, status=0, **how):
        how = {"cwd": self.prefix, "env": self.environment, "capture_output": True, "text": True, "timeout": 60, **how}
        done = subprocess.run(words, check=False, **how)
        assert done.returncode == status, done
        return done


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The Debian package."""
    for program in ("dpkg-buildpackage", "dh", "pybuild"):
        need(program)
    folder = tmp_path_factory.mktemp("debian")
    tree = copy_of_the_tree(folder / f"tcp-proxy-{__version__}")
    command = ["dpkg-buildpackage", "--unsigned-source", "--unsigned-changes"]
    done = subprocess.run(command, cwd=tree, env=DEBIAN, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / f"tcp-proxy_{__version__}_all.deb"
