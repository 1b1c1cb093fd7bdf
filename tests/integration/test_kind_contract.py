"""The conformance kit, applied to the built-in kinds, and shown to catch kinds that do wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.servers.mail import MailServer
from tests.servers.web import WebServer
from tiercast.actions import Action, Job, Secret
from tiercast.testing import ActionContract
from tiercast.testing.vendors.hubspot import FakeHubSpot
from worker.actions.email import Email
from worker.actions.hubspot import HubSpot
from worker.actions.log import Log
from worker.actions.webhook import Webhook

MAIL = {"from": "hello@tea.example", "to": "ines@example.com", "subject": "Hello", "text": "Hi"}


class TestEmailByServer(ActionContract):
    action_class = Email
    options: Mapping[str, Any] = MAIL | {"username": "ines", "password": "s3cr3t-pass"}

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with MailServer(logins={"ines": "s3cr3t-pass"}) as server:
            self.options = {**self.options, "server": server.url}
            yield


class TestEmailIntoFolder(ActionContract):
    action_class = Email

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.options = MAIL | {"server": f"file:{tmp_path}"}


class TestHubSpot(ActionContract):
    action_class = HubSpot
    options: Mapping[str, Any] = {
        "token": "pat-s3cr3t",
        "id": "ines@example.com",
        "properties": {"loyalty_tier": "Gold"},
    }

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with FakeHubSpot() as server:
            self.options = {**self.options, "base_url": server.url}
            yield


class TestWebhook(ActionContract):
    action_class = Webhook
    options: Mapping[str, Any] = {
        "secret": "s3cr3t",
        "authorization": "Bearer t0ken-s3cr3t",
        "allow_hosts": ["127.0.0.1"],
    }

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with WebServer() as server:
            self.options = {**self.options, "url": f"{server.url}/hook"}
            yield


class TestLog(ActionContract):
    action_class = Log
    options: Mapping[str, Any] = {"message": "hello"}


class Careless(Action):
    """Does everything wrong that the kit looks for."""

    kind = "Careless Kind"
    repeatable = False

    class Options(Action.Options):
        token = Secret()
        timeout = Secret()

    def perform(self, job: Job) -> str | None:
        return f"sent {self.options.token} for {job.event.customer and job.event.customer.email}"

    def perform_many(self, jobs: list[Job]) -> Iterator[tuple[Job, str | Exception | None]]:
        for job in (*jobs, jobs[0]):
            yield job, None

    def __repr__(self) -> str:
        return f"Careless({self.options.token})"


class _CarelessContract(ActionContract):
    action_class: ClassVar[type[Action]] = Careless
    options: Mapping[str, Any] = {"token": "s3cr3t-token"}


@pytest.mark.parametrize(
    ("test", "arguments"),
    [
        ("test_its_name_can_stand_in_a_configuration", {}),
        ("test_its_options_do_not_hide_those_of_every_action", {}),
        ("test_if_it_is_not_repeatable_it_confirms_or_says_so", {}),
        ("test_it_shows_no_secret", {}),
        ("test_it_performs_every_tier_event", {"type_": "customer.loyalty.tier.left"}),
        ("test_its_bulk_call_answers_for_known_jobs_and_once", {}),
        ("test_it_performs_24_jobs_at_once", {}),
    ],
)
def test_the_kit_catches_a_careless_kind(test: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        getattr(_CarelessContract(), test)(**arguments)


class Blocking(Action):
    """Stands on its loop, and cannot be used again after it was cancelled."""

    kind = "blocking"
    cancelled = False

    async def perform(self, job: Job) -> str | None:
        if self.cancelled:
            raise RuntimeError("not usable any more")
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        time.sleep(0.6)
        return None


class _BlockingContract(ActionContract):
    action_class: ClassVar[type[Action]] = Blocking


def test_the_kit_catches_an_async_kind_that_blocks() -> None:
    with pytest.raises(AssertionError, match="the loop stood still"):
        _BlockingContract().test_if_it_is_async_it_does_not_block_its_loop()


def test_the_kit_catches_a_kind_that_a_cancelled_attempt_leaves_unusable() -> None:
    with pytest.raises(RuntimeError, match="not usable"):
        _BlockingContract().test_if_it_is_async_an_attempt_can_be_cancelled()
