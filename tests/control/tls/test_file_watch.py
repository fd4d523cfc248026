"""Files change as they do: renamed over, written in place, links turned, one after another."""

import threading

import pytest

from kit.certificates import Authority
from kit.waiting import wait_until
from tcp_proxy.config.certificates import Files, read_authorities, read_certificate
from tcp_proxy.config.tls_model import TargetTls, Tls
from tcp_proxy.control.tls import file_watch
from tcp_proxy.control.tls.file_watch import FileWatch, Watched
from tcp_proxy.runtime.loop import Loop


@pytest.fixture(scope="module")
def root():
    return Authority()


def read(said):
    return read_certificate(Files(**said))


def replace(path, text):
    """As a careful program does it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


@pytest.fixture
def said(root, tmp_path):
    return root.issue("a.org").write(tmp_path)


@pytest.fixture
def watched(said):
    return Watched(Tls((read(said),)))


def test_nothing_has_changed(watched):
    assert watched.look() is None
    assert watched.look() is None


def test_a_renewed_pair_is_read_when_it_has_come_to_rest(root, watched, tmp_path):
    renewed = root.issue("a.org", days=200)
    replace(tmp_path / "server.pem", renewed.chain)
    assert watched.look() is None, "the key is another one still"
    renewed.write(tmp_path)
    assert watched.look() is None
    found = watched.look()
    assert found.certificates[0].chain == renewed.chain
    assert watched.look() is None


def test_who_writes_slowly_is_told_once_and_then_it_is_right(root, watched, tmp_path):
    renewed = root.issue("a.org")
    (tmp_path / "server.pem").write_text(renewed.chain)
    assert watched.look() is None
    assert watched.look() == f"{tmp_path}/server.key: the key does not belong to the certificate of CN=a.org"
    assert watched.look() is None
    renewed.write(tmp_path)
    assert watched.look() is None
    assert watched.look().certificates[0].chain == renewed.chain


def test_a_file_that_goes_and_comes_back(watched, tmp_path):
    text = (tmp_path / "server.key").read_text()
    (tmp_path / "server.key").unlink()
    assert watched.look() is None
    assert watched.look() == f"{tmp_path}/server.key: there is no such file"
    (tmp_path / "server.key").write_text(text)
    assert watched.look() is None
    assert watched.look() is None, "it is what it was"


def test_what_was_right_before_something_else_was_wrong_is_not_forgotten(root, said, tmp_path):
    (tmp_path / "ca.pem").write_text(root.pem)
    watched = Watched(Tls((read(said),), client_ca=read_authorities(str(tmp_path / "ca.pem")), verify="required"))
    other, key = Authority(), (tmp_path / "server.key").read_text()
    (tmp_path / "ca.pem").write_text(other.pem)
    (tmp_path / "server.key").write_text("no")
    watched.look()
    assert isinstance(watched.look(), str)
    (tmp_path / "server.key").write_text(key)
    watched.look()
    assert watched.look().client_ca.pem == other.pem


def test_a_link_that_leads_elsewhere(root, tmp_path):
    """As cert-manager in a container does it."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        root.issue("a.org").write(tmp_path / name)
    (tmp_path / "live").symlink_to("one")
    said = {"chain": str(tmp_path / "live" / "server.pem"), "key": str(tmp_path / "live" / "server.key")}
    watched = Watched(Tls((read(said),)))
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "live")
    assert watched.look() is None
    assert watched.look().certificates[0].chain == (tmp_path / "two" / "server.pem").read_text()


def test_what_openssl_does_not_take_is_wrong(root, watched, tmp_path):
    root.issue("a.org", key="1024").write(tmp_path)
    watched.look()
    assert watched.look() == f".certificates[0]: {tmp_path}/server.pem: OpenSSL says: ee key too small"


def test_in_its_thread(root, said, tmp_path, monkeypatch):
    monkeypatch.setattr(file_watch, "POLL", 0.01)
    main, reports = Loop("main"), []
    watch = FileWatch(main, lambda *report: (reports.append(report), main.stop()))
    watch.watch([TargetTls()])
    assert "certificates" not in {thread.name for thread in threading.enumerate()}, "there are no files"
    old = Tls((read(said),))
    watch.watch([old, Tls((read(said),), watch=False), TargetTls()])
    renewed = root.issue("a.org")
    renewed.write(tmp_path)
    main.run()
    ((before, new),) = reports
    assert before == old
    assert new.certificates[0].chain == renewed.chain
    watch.watch([])
    wait_until(lambda: not watch._watched, "nothing is watched")
    watch.stop()
    assert "certificates" not in {thread.name for thread in threading.enumerate()}
    main.close()


def test_the_program_ends_though_the_disk_hangs(said, monkeypatch):
    is_there, goes_on = threading.Event(), threading.Event()

    def hanging(path):
        is_there.set()
        goes_on.wait()
        return path

    loop, value = Loop("test"), Tls((read(said),))
    monkeypatch.setattr(file_watch, "stamp", hanging)
    monkeypatch.setattr(file_watch, "STOP_WAIT", 0.01)
    monkeypatch.setattr(file_watch, "POLL", 0.005)
    watch = FileWatch(loop, lambda *_: None)
    watch.watch([value])
    hangs = watch._thread
    is_there.wait()
    watch.stop()
    assert hangs.is_alive()
    goes_on.set()
    hangs.join()
    loop.close()
