"""Points are paid once: kind `voucherify-points` through real workers that are killed between call and settling."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.stack import Stack, wait_for
from tiercast.actions import Action
from tiercast.ledger.model import JobInfo
from tiercast.testing.vendors import Fault
from tiercast.testing.vendors.voucherify import APP_ID, APP_TOKEN, FakeVoucherify
from worker.actions.voucherify_points import VoucherifyPoints

#: For how many payments the process that makes them is killed; two at a time.
KILLS = int(os.environ.get("TIERCAST_TEST_KILLS", "20"))

CONFIG = """
[actions.pay]
kind = "{kind}"
base_url = "{url}"
app_id = "env:APP_ID"
app_token = "env:APP_TOKEN"
points = 50
rate = "1000/s"
settle_seconds = 2
timeout = 2
attempts = 100
backoff = 0.2
backoff_max = 0.5

[[rules]]
on = "customer.loyalty.tier.*"
do = ["pay"]
"""


class Blind(VoucherifyPoints):
    """Pay points without being able to find out afterwards, so that jobs are left uncertain."""

    kind = "blind"
    confirm = Action.confirm  # type: ignore[assignment]


class World(Stack):
    """The stack with the vendor that its action pays through."""

    def __init__(self, folder: Path, vendor: FakeVoucherify, kind: str = "voucherify-points") -> None:
        self.vendor = vendor
        super().__init__(
            folder,
            CONFIG.format(url=vendor.url, kind=kind),
            env={"APP_ID": APP_ID, "APP_TOKEN": APP_TOKEN, "TIERCAST_LEASE": "1"},
        )

    def pool(self) -> list[psutil.Process]:
        """The processes that perform, but not those aside that look into what became of the lost."""
        found = []
        for child in psutil.Process(self.processes["worker"].pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # one that was killed
                if "worker.aside" not in child.cmdline():
                    found.append(child)
        return found

    def pay(self, customer: str, fault: Fault | None = None) -> str:
        """Have one customer paid; returns when the call has been made."""
        self.vendor.card_of(customer)
        if fault:
            self.vendor.faults.append(fault)
        before = len(self.vendor.balance_calls())
        delivery = self.send(customer_id=customer, source_id=customer, email=f"{customer}@example.com")
        wait_for(lambda: len(self.vendor.balance_calls()) > before)
        return delivery

    def job(self, customer: str) -> JobInfo:
        """The job of a customer's only event."""
        (job,) = self.jobs(customer=customer)
        return job


@pytest.fixture
def vendor() -> Iterator[FakeVoucherify]:
    with FakeVoucherify(delay=1.0) as server:
        yield server


@pytest.fixture
def world(tmp_path: Path, vendor: FakeVoucherify) -> Iterator[World]:
    with World(tmp_path, vendor) as it:
        it.start_web()
        it.start_worker(concurrency=1)
        yield it


@pytest.mark.timeout(60 + 10 * KILLS)
def test_each_customer_is_paid_once_however_often_the_worker_is_killed(world: World) -> None:
    # Given calls that get no answer, half of them carried out and half not
    for number in range(0, KILLS, 2):
        wait_for(world.pool, seconds=60)
        world.pay(f"cust_{number}", "hang after")
        world.pay(f"cust_{number + 1}", "hang before")
        # When the processes that made them are killed before they could settle
        for process in world.pool():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    # Then every customer is paid, each once
    wait_for(lambda: world.states() == {"done": KILLS}, seconds=60 + 5 * KILLS)
    assert sorted(world.vendor.times_paid().values()) == [1] * KILLS
    assert set(world.vendor.points().values()) == {50}
    # and of those that were carried out, none was asked for again
    assert len(world.vendor.balance_calls()) == KILLS + KILLS // 2
    history = [attempt.outcome for attempt in world.job("cust_0").history]
    assert (history[0], history[-1]) == ("lost", "done")


def test_a_whole_worker_is_killed_and_another_finds_out(world: World) -> None:
    world.pay("cust_1", "hang after")
    world.stop("worker", signal.SIGKILL)
    world.start_worker("second", concurrency=1)
    wait_for(lambda: world.states() == {"done": 1}, seconds=60)
    assert world.vendor.times_paid() == {world.vendor.cards["camp_teahouse", "cust_1"][0]: 1}
    assert world.job("cust_1").text == "confirmed: an earlier attempt had done it"


def test_answers_that_leave_it_open_are_looked_into(world: World) -> None:
    # Given every way in which a call can end without a yes or a no, and one with a plain not now
    faults: list[Fault] = ["hang up after", "500 after", "500 before", "hang up before", "429"]
    for number, fault in enumerate(faults):
        world.pay(f"cust_{number}", fault)
    wait_for(lambda: world.states() == {"done": len(faults)}, seconds=60)
    assert sorted(world.vendor.times_paid().values()) == [1] * len(faults)


def test_one_tier_pays_once_whatever_comes_again(world: World) -> None:
    # Given points that lead to the same tier again and again
    world.pay("cust_1")
    for _ in range(5):
        world.send(customer_id="cust_1", source_id="cust_1")
    wait_for(lambda: world.states() == {"done": 1, "superseded": 5})
    assert list(world.vendor.times_paid().values()) == [1]


def test_without_confirm_an_operator_decides(tmp_path: Path, vendor: FakeVoucherify) -> None:
    with World(tmp_path, vendor, kind=f"{__name__}:Blind") as world:
        world.start_web()
        world.start_worker(concurrency=1)
        # Given two calls without an answer, one of them carried out
        world.pay("cust_1", "hang up after")
        world.pay("cust_2", "hang up before")
        wait_for(lambda: world.states() == {"uncertain": 2})

        # When an operator decides
        world.cli("jobs", "resolve", world.job("cust_1").key, "done")
        world.cli("jobs", "resolve", world.job("cust_2").key, "retry")

        # Then each is paid once
        wait_for(lambda: world.states() == {"done": 2})
        assert sorted(vendor.times_paid().values()) == [1, 1]
