"""The API's listening socket: TCP or UNIX, bound or explained, and given back."""

import os
import socket
import stat
import threading

import pytest

from kit.ports import free_port
from kit.proxy import run_to_end
from tcp_proxy.config.model import Api
from tcp_proxy.control.listeners.api_socket import ApiSocket
from tcp_proxy.control.listeners.sockets import CannotListen
from tcp_proxy.sansio.address import Address, parse_listen


def test_tcp_listens(free_port):
    bound = ApiSocket(Api(Address("127.0.0.1", port := free_port())))
    with socket.create_connection(("127.0.0.1", port)):
        assert bound.url == f"http://127.0.0.1:{port}"
    bound.close()


@pytest.mark.parametrize(("listen", "reached"), [("*", "127.0.0.1"), ("*", "::1"), ("[::1]", "::1")])
def test_other_kinds_of_addresses(listen, reached, free_port, tmp_path):
    bound = ApiSocket(Api(parse_listen(f"{listen}:{(port := free_port())}")))
    with socket.create_connection((reached, port)):
        bound.close()


def test_a_taken_port_is_explained(free_port):
    with socket.create_server(("127.0.0.1", free_port())) as other:
        port = other.getsockname()[1]
        us = rf"API cannot listen on 127.0.0.1:{port}: Address already in use; process {os.getpid()} \([^)]+\) listens there"
        with pytest.raises(CannotListen, match=us):
            ApiSocket(Api(Address("127.0.0.1", port)))


def test_a_unix_socket_is_for_its_owner_only_and_goes_with_us(tmp_path):
    path = tmp_path / "api.sock"
    bound = ApiSocket(Api(Address(path=str(path))))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    bound.close()
    assert not path.exists()


def test_one_that_nobody_serves_is_taken_over_and_a_newer_one_is_left(tmp_path):
    path = str(tmp_path / "api.sock")
    first = ApiSocket(Api(Address(path=path)))
    first.sock.close()
    second = ApiSocket(Api(Address(path=path)))
    first.close()
    assert os.path.exists(path), "it is the second one's"
    with pytest.raises(CannotListen, match=rf"Address already in use; process {os.getpid()} \([^)]+\) listens there"):
        ApiSocket(Api(Address(path=path)))
    second.close()


def test_one_whose_server_is_just_ending_is_waited_for(tmp_path):
    """As that of a supervisor that was killed."""
    path = str(tmp_path / "api.sock")
    first = ApiSocket(Api(Address(path=path)))
    ends = threading.Timer(0.2, first.sock.close)
    ends.start()
    second = ApiSocket(Api(Address(path=path)))
    ends.join()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    second.close()


def test_a_file_of_that_name_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(CannotListen, match="no socket has this name"):
        ApiSocket(Api(Address(path=str(path))))
    assert path.read_text() == "data"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CannotListen, match="its folder does not exist"):
        ApiSocket(Api(Address(path=str(tmp_path / "no" / "api.sock"))))


@pytest.mark.parametrize("content", [None, "", "short"])
def test_without_a_good_token_file_the_program_does_not_start(content, tmp_path, proxy):
    token = tmp_path / "token"
    if content is not None:
        token.touch(0o600)
        token.write_text(content)
    api = {"listen": f"127.0.0.1:{free_port()}", "token_file": str(token)}
    program = proxy(targets=["127.0.0.1:1"], top={"api": api}, ready=False)
    assert program.wait() == 1
    (line,) = program.lines
    assert f"cannot be served: token file {token}" in line


def test_a_token_file_that_others_may_read_is_one_line_with_what_to_do(tmp_path, proxy):
    """At the start, and by --check."""
    token = tmp_path / "token"
    token.write_text("correct-horse-battery-staple")
    token.chmod(0o644)
    api = {"listen": f"127.0.0.1:{free_port()}", "token_file": str(token)}
    program = proxy(targets=["127.0.0.1:1"], top={"api": api}, ready=False)
    assert program.wait() == 1
    (line,) = program.lines
    words = f"token file {token}: its mode 0644 lets others at it; mend it with: chmod 600 {token}"
    assert words in line
    (path,) = tmp_path.glob("config-*.json")
    done = run_to_end("--check", path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{path}: $.api.token_file: {words}\n"
    token.chmod(0o600)
    assert run_to_end("--check", path, cwd=tmp_path).returncode == 0
    token.unlink()
    assert "No such file" in run_to_end("--check", path, cwd=tmp_path).stderr


def test_an_address_for_everybody_without_a_token_is_an_error_of_the_configuration(tmp_path):
    text = '{"apps": [{"name": "a", "ports": [1], "targets": ["x:1"]}],\n "api": {"listen": "*:8687"}}'
    (tmp_path / "config.json").write_text(text)
    done = run_to_end("config.json", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith('config.json:2:20: $.api.listen: "*:8687" can be reached from other machines')
