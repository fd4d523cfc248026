"""The sampler asks the supervisor no more often than it says, whoever looks; and what it was told is there at two paths."""

import asyncio
import json
import pathlib
from itertools import count

import pytest

from kit.api import Api, api_config
from kit.waiting import wait_until
from tcp_proxy.control.api import sampler as module
from tcp_proxy.control.api.problems import Problem
from tcp_proxy.control.api.sampler import Sampler
from tests.control.api.test_history import app, row, sample


class Supervisor:
    """In the place of the link: what it was asked, and what it answers."""

    def __init__(self, targets=2, trouble=0):
        self.asked, self.trouble, self.states = 0, trouble, {"up": targets, "draining": 0, "down": 0}

    async def ask(self, operation):
        assert operation == "samples"
        self.asked += 1
        if self.asked <= self.trouble:
            raise Problem(504, "it is busy")
        return sample(web=app(row(1, self.asked), states=self.states))


def run(script, **how):
    """script(sampler, supervisor) in a loop."""

    async def main():
        supervisor, clock = Supervisor(**how), count(1_700_000_000, 10)
        sampler = Sampler(supervisor, lambda: float(next(clock)))
        await script(sampler, supervisor)
        if sampler._task is not None:
            sampler._task.cancel()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_many_who_look_at_once_cost_one_question():
    async def script(sampler, supervisor):
        found = await asyncio.gather(*(sampler.rates() for _ in range(20)), *(sampler.rates("web") for _ in range(20)))
        assert {number for number, _ in found} == {1}
        assert supervisor.asked == 1
        assert json.loads(found[0][1])["every"] == module.LIVE + module.LATER

    run(script)


def test_with_many_targets_it_asks_more_seldom(monkeypatch):
    monkeypatch.setattr(module, "LIVE", 0.0)

    async def script(sampler, supervisor):
        for _ in range(3):
            _, text = await sampler.rates()
        assert supervisor.asked == 1
        assert json.loads(text)["every"] == 2000 * module.COST + module.LATER

    run(script, targets=2000)


def test_each_sample_is_told_anew(monkeypatch):
    monkeypatch.setattr(module, "LIVE", 0.0)
    monkeypatch.setattr(module, "COST", 0.0)

    async def script(sampler, supervisor):
        assert [(await sampler.rates("web"))[0] for _ in range(3)] == [1, 2, 3]
        points = json.loads(await sampler.points("web"))
        assert points["series"]["sessions_per_second"] == [0.1, 0.1]

    run(script)


def test_an_app_that_is_not_there_is_a_problem():
    async def script(sampler, _supervisor):
        for ask in (sampler.rates, sampler.points):
            with pytest.raises(Problem, match="no app named 'nobody'"):
                await ask("nobody")

    run(script)


def test_a_supervisor_that_is_busy_is_asked_again(monkeypatch):
    for name in ("EVERY", "LIVE", "COST"):
        monkeypatch.setattr(module, name, 0.0)

    async def script(sampler, supervisor):
        sampler.start()
        while supervisor.asked < 5:
            await asyncio.sleep(0)
        assert (await sampler.rates())[0] >= 3

    run(script, trouble=2)


# -- through the whole program


@pytest.fixture
def program(proxy, service):
    return proxy(targets=[service()], top={"api": api_config()})


def test_rates_and_history_of_a_program(program):
    api = Api.of(program)
    program.connect().send(b"x").expect(b"x")

    def seen():
        found = api.get("/api/v1/rates?app=app").json
        return found if found["apps"]["app"]["row"][0] == 1 else None

    wait_until(seen, "the session is seen")
    found = seen()
    assert found["apps"]["app"]["states"] == {"up": 1, "draining": 0, "down": 0}
    assert next(iter(found["targets"].values()))[0] == 1
    assert found["program"][0] == 1
    reply = api.get("/api/v1/history?app=app")
    assert reply.json["mode"] == "tcp"
    assert "no app" in api.get("/api/v1/history?app=x", status=404).detail
    assert "no app" in api.get("/api/v1/rates?app=x", status=404).detail


def test_nothing_newer_is_said_in_a_word(program):
    api = Api.of(program)
    first = api.get("/api/v1/rates")
    again = api.ask("GET", "/api/v1/rates", headers={"If-None-Match": first.headers["etag"]})
    assert again.status == 200 or (again.status, again.body) == (304, b"")
    assert (again.status == 304) == (again.headers["etag"] == first.headers["etag"])


def test_the_plan_of_the_file_is_shown_before_it_is_applied(program):
    api = Api.of(program)
    assert api.get("/api/v1/plan").json["changes"] == []
    config = {**program.config, "apps": [{**program.config["apps"][0], "retries": 7}]}
    pathlib.Path(program.process.args[-1]).write_text(json.dumps(config))
    (change,) = api.get("/api/v1/plan").json["changes"]
    assert "retries" in change["text"]
    assert api.get("/api/v1/apps/app").json["retries"] != 7
