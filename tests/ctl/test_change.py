"""drain, disable, ready, weight, close, reload, plan: done to a running program, and seen by its clients."""

import json

from kit.api import api_config
from kit.ctl import Ctl
from kit.waiting import wait_until
from tests.system.test_reload import Config


def shares(program, ctl, count):
    """How many of so many new clients each target gets."""
    before = ctl.json("status")["statistics"]["apps"]["app"]["targets"]
    for _ in range(count):
        program.connect().send(b"x").expect(b"x").close()
    after = ctl.json("status")["statistics"]["apps"]["app"]["targets"]
    return [after[name]["sessions"]["total"] - before[name]["sessions"]["total"] for name in ("one", "two")]


def known(program, ctl, **wanted):
    """Until all workers do as the supervisor has said: a message is under way for a moment."""
    wait_until(lambda: shares(program, ctl, 4) == wanted["shares"], f"shares {wanted}")


def test_a_target_is_drained_disabled_and_made_ready(program, ctl):
    stays = program.connect().send(b"x").expect(b"x")
    for command, word, why in (("drain", "draining", "set to drain"), ("disable", "disabled", "disabled")):
        said = f"app app: target one is {word}, weight 1: {why} (the file says admin ready)\n"
        assert ctl(command, "app", "one").text == said
        known(program, ctl, shares=[0, 4])
        assert f" {word}* " in next(line for line in ctl("status").text.splitlines() if line.startswith("  one "))
        ctl("ready", "app", "one")
        wait_until(lambda: 0 not in shares(program, ctl, 4), "both get sessions")
    stays.send(b"y").expect(b"y")


def test_a_weight(program, ctl):
    assert ctl.json("weight", "app", "one", "0")["weight"] == 0
    known(program, ctl, shares=[0, 4])


def test_what_is_refused(still):
    ctl = Ctl.of(still)
    for words, said in (
        ("drain nobody one", "there is no app"),
        ("drain app nobody", "no target"),
        ("weight app one 257", "weight"),
        ("weight app one -1", "weight"),
        ("close nonsense", "not the id of a session"),
        ("close 1a.1-99", "no session 1a.1-99 goes on"),
    ):
        assert said in ctl(*words.split(), status=1).errors


def test_a_target_is_added_checked_and_removed(program, ctl, service):
    third = service()
    assert ctl("add", "app", third.address, "--name", "three", "--weight", "2").text.startswith("app app: target three is ")
    assert "has a target named three already" in ctl("add", "app", third.address, "--name", "three", status=1).errors
    assert "nonsense" in ctl("add", "app", "nonsense:x", status=1).errors
    wait_until(lambda: program.connect().send(b"x").expect(b"x") and third.accepted, "it gets sessions")
    assert "has no health checks" in ctl("probe", "app", "three", status=1).errors
    assert ctl("remove", "app", "three").text == "app app: target three is removed\n"
    assert "no target" in ctl("remove", "app", "three", status=1).errors


def test_a_check_now(proxy, service):
    program = proxy(targets=[service()], health={"type": "tcp", "interval": 3600}, top={"api": api_config()})
    program.uncounted = None
    ctl = Ctl.of(program)

    def target():
        return ctl.json("status")["statistics"]["apps"]["app"]["targets"].popitem()

    name, before = target()
    assert ctl("probe", "app", name).text == f"app app: target {name} is checked now\n"
    wait_until(lambda: target()[1]["probes"] != before["probes"], "one check more")


def test_a_session_is_closed(program, ctl):
    client = program.connect().send(b"x").expect(b"x")
    (session,) = ctl.json("sessions")
    assert ctl("close", session["id"]).text == f"session {session['id']} is closed\n"
    client.expect_rst()


def test_reload_says_what_was_changed(program, ctl):
    assert ctl("reload").text == "nothing is different\n"
    file = Config(program)
    file.app["retries"] = 1
    file.write()
    (change,) = ctl.json("reload")["changes"]
    assert change["text"] == "app app: retries: 3 -> 1"
    file.write("{")
    assert ":1:2:" in ctl("reload", status=1).errors


def test_plan_says_what_a_file_would_change_and_changes_nothing(program, ctl, tmp_path):
    config = json.loads(json.dumps(program.config))
    config["apps"][0]["targets"].pop()
    file = tmp_path / "other.json"
    file.write_text(json.dumps(config))
    assert "two" in ctl("plan", file).text
    (change,) = ctl.json("plan", "-", given=file.read_text())["changes"]
    assert (change["subject"], change["closes"]) == ("two", False)
    assert ctl("plan", next(program.folder.glob("config-*.json"))).text == "nothing is different\n"
    assert len(ctl.json("status")["apps"][0]["targets"]) == 2


def test_plan_says_which_listeners_would_close_for_a_moment(program, ctl, tmp_path):
    config = json.loads(json.dumps(program.config))
    config["apps"][0]["bind"] = "*"
    file = tmp_path / "other.json"
    file.write_text(json.dumps(config))
    (closes,) = [change for change in ctl.json("plan", file)["changes"] if change["closes"]]
    assert closes["subject"] == f"127.0.0.1:{program.port}"
    lines = ctl("plan", file).text.splitlines()
    assert lines == [
        f"app app: listener 127.0.0.1:{program.port} removed (closed for a moment)",
        f"app app: listener *:{program.port} added",
        "1 listener would be closed for a moment: who connects then is refused",
    ]


def test_plan_of_a_wrong_file_has_all_its_errors(program, ctl, tmp_path):
    file = tmp_path / "wrong.json"
    file.write_text('{"apps": [{"name": "app", "ports": ["x"], "targets": [1]}]}')
    errors = ctl("plan", file, status=1).errors.splitlines()
    assert len(errors) == 2
    assert all(":1:" in line for line in errors)


def test_what_was_said_is_marked_stands_over_a_reload_and_goes_back_to_the_file(program, ctl, service):
    third = service()
    for words in ("weight app one 5", "drain app one", "remove app two", f"add app {third.address} --name three --weight 2"):
        ctl(*words.split())
    text = ctl("status").text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith(("  one", "  three"))] == [
        ["one", "draining*", "5*"], ["three*", "up", "2"],
    ]  # fmt: skip
    assert "  removed at run time*: two\n" in text
    assert "said at run time" in text.splitlines()[-1]
    stands = [
        "stands: app app: target one: drain, said at run time; the file says ready",
        "stands: app app: target one: weight 5, said at run time; the file says 1",
        "stands: app app: target two: removed at run time; the file has it",
        "stands: app app: target three: added at run time",
    ]
    assert ctl("reload").text.splitlines() == ["nothing is different", *stands]
    assert ctl("plan", next(program.folder.glob("config-*.json"))).text.splitlines() == ["nothing is different", *stands]
    assert [f"stands: {line}" for line in ctl("config").errors.splitlines()] == stands
    program.wait_log("reload: app app: target one: drain, said at run time; the file says ready; .*; and more\\b")
    assert "three" in ctl("reset", "app", "three").text
    assert ctl("reset", "app").text.splitlines() == [line.replace("stands", "no longer") for line in stands[:3]]
    text = ctl("status").text
    assert "*" not in text
    assert [line.split()[:3] for line in text.splitlines()[-2:]] == [["one", "up", "1"], ["two", "up", "1"]]
    assert ctl("reset", "--all").text == "nothing was said at run time: all is as the file says\n"
    wait_until(lambda: 0 not in shares(program, ctl, 4), "both get sessions")
    assert [event["data"]["text"] for event in ctl.json("events") if event["data"].get("what") == "reset"] == [
        "1 target is as the file says again", "2 targets are as the file says again",
    ]  # fmt: skip


def test_reset_wants_to_be_told_what(still):
    ctl = Ctl.of(still)
    for words in ([], ["app", "--all"]):
        assert "wanted an APP" in ctl("reset", *words, status=2).errors
    assert "there is no app nobody" in ctl("reset", "nobody", status=1).errors
    assert "no target nobody" in ctl("reset", "app", "nobody", status=1).errors
