"""One OAuth token for all calls: fetched once, replaced once, never in a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers.web import Answer, Request, WebServer
from tiercast.actions import Halt, RetryLater, Unavailable
from tiercast.outbound import Client, Token, TokenHolder, bearer, client_credentials


class Authority(WebServer):
    """A token server and an API that takes the newest token only, until it is told otherwise."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.issued = 0
        self.good: set[str] = set()
        self.lasts: Any = 3600
        self.refuses_tokens = False

    def _answer(self, request: Request) -> Answer:
        if request.path == "/token":
            if b"client_secret=s3cr3t-of-client" not in request.body:
                return Answer(status=400, body={"error": "invalid_client", "error_description": "no such client"})
            self.issued += 1
            self.good = set() if self.refuses_tokens else {f"token-{self.issued}"}
            return Answer(body={"access_token": f"token-{self.issued}", "expires_in": self.lasts, "instance": "eu"})
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return Answer(body={"ok": True}) if token in self.good else Answer(status=401, body={"code": "INVALID"})

    @property
    def fetches(self) -> int:
        return sum(request.path == "/token" for request in self.requests)

    @property
    def calls(self) -> int:
        return sum(request.path == "/call" for request in self.requests)


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority() as server:
        yield server


class Caller:
    """Makes calls with a token, as a kind does."""

    def __init__(self, authority: Authority, *, secret: str = "s3cr3t-of-client") -> None:  # noqa: S107
        self.url = authority.url
        self.client = Client(timeout=5)
        self.tokens = TokenHolder(
            lambda: client_credentials(self.client, f"{self.url}/token", client_id="me", client_secret=secret)
        )

    async def call(self) -> int:
        answer = await self.tokens.call(
            lambda token: self.client.send("POST", f"{self.url}/call", json={}, headers=bearer(token))
        )
        return answer.status

    def run(self, times: int) -> list[Any]:
        async def run() -> list[Any]:
            found = await asyncio.gather(*(self.call() for _ in range(times)), return_exceptions=True)
            await self.client.close()
            return found

        return asyncio.run(run())


def test_one_fetch_serves_all_calls_at_once(authority: Authority) -> None:
    caller = Caller(authority)
    assert caller.run(20) == [200] * 20
    assert authority.fetches == 1
    # Later calls, also of another loop, take the same token
    assert caller.run(3) == [200] * 3
    assert authority.fetches == 1


def test_a_token_that_was_revoked_is_replaced_once_for_all(authority: Authority) -> None:
    # Given a token that the vendor has ended early
    caller = Caller(authority)
    caller.run(1)
    authority.good.clear()
    # When many calls meet that at once
    assert caller.run(20) == [200] * 20
    # Then one fetch serves them all
    assert authority.fetches == 2


def test_13_a_token_that_is_refused_again_holds_the_lane_and_is_not_fetched_in_a_loop(authority: Authority) -> None:
    authority.refuses_tokens = True
    outcomes = Caller(authority).run(8)
    assert all(isinstance(outcome, Halt) and outcome.cause == "credential" for outcome in outcomes)
    assert authority.fetches == 2
    assert authority.calls == 16


def test_a_token_is_replaced_before_it_ends(authority: Authority) -> None:
    authority.lasts = 20  # seconds, less than a call may take
    caller = Caller(authority)
    caller.run(1)
    caller.run(1)
    assert authority.fetches == 2


@pytest.mark.parametrize("lasts", [None, "3600", True, [1]])
def test_a_server_that_does_not_say_how_long(authority: Authority, lasts: object) -> None:
    authority.lasts = lasts
    caller = Caller(authority)
    assert caller.run(2) == [200] * 2
    assert authority.fetches == 1


def test_a_secret_that_is_refused_holds_the_lane_and_is_not_shown(authority: Authority) -> None:
    outcomes = Caller(authority, secret="wrong-s3cr3t").run(5)
    assert all(isinstance(outcome, Halt) and outcome.cause == "credential" for outcome in outcomes)
    assert "s3cr3t" not in "".join(map(str, outcomes))
    assert "client_secret" in str(outcomes[0])
    assert authority.fetches == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(status=503), Unavailable),
        (Answer(status=429), RetryLater),
        (Answer(status=404), Halt),
        (Answer(body=b"<html>"), RetryLater),
        (Answer(body={"token": "x"}), RetryLater),
    ],
)
def test_a_token_server_that_cannot_answer(authority: Authority, answer: Answer, error: type[Exception]) -> None:
    authority.queue.append(answer)
    (outcome,) = Caller(authority).run(1)
    assert isinstance(outcome, error)


def test_a_call_that_is_cancelled_takes_the_token_from_nobody(authority: Authority) -> None:
    caller = Caller(authority)

    async def run() -> list[Any]:
        first = asyncio.ensure_future(caller.call())
        others = [asyncio.ensure_future(caller.call()) for _ in range(4)]
        await asyncio.sleep(0)
        first.cancel()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        await caller.client.close()
        return found

    first, *others = asyncio.run(run())
    assert isinstance(first, asyncio.CancelledError)
    assert others == [200] * 4
    assert authority.fetches == 1


def test_403_is_no_matter_of_the_token(authority: Authority) -> None:
    caller = Caller(authority)
    caller.run(1)
    authority.queue.append(Answer(status=403))
    (outcome,) = caller.run(1)
    assert isinstance(outcome, Halt)
    assert authority.fetches == 1


def test_a_token_is_not_shown() -> None:
    assert "abc" not in repr(Token("abc", 1, {"refresh": "abcdef"}))
