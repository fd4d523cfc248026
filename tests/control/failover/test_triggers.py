"""What is run when there is a primary: files as they are, folders by name."""

import os

from tcp_proxy.control.failover.triggers import find_triggers


def test_files_are_taken_as_they_are(tmp_path):
    """One that is missing or not executable is found out when it is run."""
    paths = [str(tmp_path / "b"), str(tmp_path / "a")]
    assert find_triggers(paths) == (paths, [])


def test_a_folder_is_read_by_name(tmp_path):
    for name, mode in {"b": 0o755, "a": 0o755, ".c": 0o755, "plain": 0o644, os.fsdecode(b"\xff"): 0o755}.items():
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "dangling").symlink_to("nothing")
    files, warnings = find_triggers([str(tmp_path)])
    assert [os.fsencode(os.path.basename(file)) for file in files] == [b".c", b"a", b"b", b"link", b"\xff"]
    assert [warning.partition(": ")[2] for warning in warnings] == [
        "dangling is left out: it is no regular file",
        "folder is left out: it is no regular file",
        "plain is left out: it is not executable",
    ]


def test_each_time_afresh(tmp_path):
    assert find_triggers([str(tmp_path)]) == ([], [])
    (tmp_path / "a").write_text("#!/bin/sh\n")
    (tmp_path / "a").chmod(0o755)
    assert find_triggers([str(tmp_path)]) == ([str(tmp_path / "a")], [])
