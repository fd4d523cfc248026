"""A folder of apps, as a program that serves has it: files come, change and go, all or nothing."""

import json
import pathlib
import re

from kit.ports import free_port
from system.test_reload import Config, messages
from tcp_proxy.config.load import load_file

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "include.md"


def test_apps_come_and_go_with_their_files(proxy, service, tmp_path):
    folder, ports = tmp_path / "apps", [free_port(), free_port()]
    folder.mkdir()
    one, two = (service(greeting=name) for name in (b"one", b"two"))

    def write(name, port, server, **keys):
        app = {"name": name, "ports": [port], "targets": [server.address], "health": [], **keys}
        (folder / f"{name}.json").write_text(json.dumps(app, indent=1))

    write("a", ports[0], one)
    program = proxy({"include": "apps"})
    old = program.connect(ports[0]).send(b"x").expect(b"onex")
    write("b", ports[1], two, retriez=1)
    lines = "\n".join(messages(Config(program).reload()))
    assert re.search(r'apps/b\.json:\d+:2: \$\.retriez: unknown key "retriez"; did you mean "retries"', lines)
    assert "nothing was changed" in lines
    write("b", ports[1], two)
    assert any("app b added" in line for line in messages(Config(program).reload()))
    program.connect(ports[1]).send(b"y").expect(b"twoy")
    (folder / "a.json").unlink()
    assert any("app a removed" in line for line in messages(Config(program).reload()))
    old.send(b"z").expect(b"z")


def test_the_example_of_the_page(tmp_path):
    for name, text in re.findall(r"^```text\n# (\S+)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert [app.name for app in load_file(str(tmp_path / "config.json")).apps] == ["web", "db"]
