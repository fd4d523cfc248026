"""What is told from outside: both kinds begin, look and end together, in a program that has both."""

import json

from kit.api import Api, api_config
from kit.certificates import Authority
from kit.waiting import wait_until


def test_certificates_and_lists_of_targets_are_both_watched(proxy, service, tmp_path):
    echo, path = service(), tmp_path / "targets.json"
    path.write_text(json.dumps([echo.address]))
    certificate = Authority().issue("a.example").write(tmp_path)
    program = proxy(targets=[f"file:{path}"], tls={"certificates": [certificate]}, top={"api": api_config()})
    program.uncounted = None
    api = Api.of(program)
    wait_until(lambda: [one["name"] for one in api.get("/api/v1/apps/app/targets").json] == [echo.address], "the target")
    assert len(api.get("/api/v1/certificates").json) == 1
    assert program.stop() == 0
