"""The API process's end of the channel: questions find their answers, events their followers, and an end ends all."""

import asyncio
import json
import socket

import pytest

from tcp_proxy.control.api import link as module
from tcp_proxy.control.api.link import Link
from tcp_proxy.control.api.problems import Problem
from tcp_proxy.wire import messages
from tcp_proxy.wire.messages import Answer, Ask, Happened, Ping, Pong, ServeApi


class Supervisor:
    """The other end, as a script says."""

    def __init__(self, sock):
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    async def hear(self):
        size = int.from_bytes(await self.loop.sock_recv(self.sock, 4), "little")
        return messages.decode(await self.loop.sock_recv(self.sock, size))

    async def say(self, message):
        await self.loop.sock_sendall(self.sock, messages.encode(message))


def play(script):
    """Run script(link, supervisor, heard) in a loop; `heard` has what the link's owner was told."""

    async def run():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            heard = []
            made = lambda: Link(heard.append, lambda: heard.append("ended"))  # noqa: E731
            transport, link = await asyncio.get_running_loop().create_connection(made, sock=ours)
            try:
                await script(link, Supervisor(theirs), heard)
            finally:
                transport.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_answers_find_their_questions_in_any_order():
    async def script(link, supervisor, _heard):
        asked = [asyncio.create_task(link.ask("echo", n=n)) for n in range(3)]
        questions = [await supervisor.hear() for _ in asked]
        assert [json.loads(question.arguments) for question in questions] == [{"n": 0}, {"n": 1}, {"n": 2}]
        for question in reversed(questions):
            assert isinstance(question, Ask)
            await supervisor.say(Answer(question.number, 200, question.arguments))
        assert [(await task)["n"] for task in asked] == [0, 1, 2]

    play(script)


def test_what_is_read_is_no_more_than_joined():
    """Of a long answer the pieces come as they were written, whatever they are."""

    async def script(link, supervisor, _heard):
        task = asyncio.create_task(link.read("x"))
        number = (await supervisor.hear()).number
        for piece in ("[1, ", "2,", "  3"):
            await supervisor.say(Answer(number, 200, piece, more=True))
        await supervisor.say(Answer(number, 200, "]"))
        assert await task == ["[1, ", "2,", "  3", "]"]

    play(script)


def test_a_refusal_is_a_problem():
    async def script(link, supervisor, _heard):
        task = asyncio.create_task(link.ask("x"))
        body = json.dumps({"detail": "no", "errors": [{"a": 1}]})
        await supervisor.say(Answer((await supervisor.hear()).number, 409, body))
        with pytest.raises(Problem) as refused:
            await task
        assert (refused.value.status, refused.value.detail, refused.value.errors) == (409, "no", [{"a": 1}])

    play(script)


def test_no_answer_is_504_and_a_late_one_is_nobody_s(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.05)

    async def script(link, supervisor, _heard):
        with pytest.raises(Problem) as late:
            await link.ask("x")
        assert late.value.status == 504
        await supervisor.say(Answer((await supervisor.hear()).number, 200, "1"))
        await supervisor.say(Ping(7))
        assert await supervisor.hear() == Pong(7)

    play(script)


def test_the_end_of_the_channel_ends_questions_and_followers():
    async def script(link, supervisor, heard):
        follower = link.follow()
        task = asyncio.create_task(link.ask("x"))
        await supervisor.hear()
        supervisor.sock.close()
        with pytest.raises(Problem) as gone:
            await task
        assert gone.value.status == 503
        assert await follower.get() is None
        assert heard == ["ended"]
        with pytest.raises(Problem):
            await link.ask("x")

    play(script)


def test_events_reach_all_followers_and_one_that_does_not_read_is_let_go(monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 3)

    async def script(link, supervisor, heard):
        lazy, eager = link.follow(), link.follow()
        for n in range(1, 6):
            await supervisor.say(Happened(n, 1.0, "x", "{}"))
            assert (await eager.get()).number == n
        assert [lazy.get_nowait().number for _ in range(2)] == [1, 2]
        assert lazy.get_nowait() is None
        await supervisor.say(ServeApi("a", None, (), "info"))
        await supervisor.say(Ping(1))
        await supervisor.hear()
        assert heard == [ServeApi("a", None, (), "info")]

    play(script)
