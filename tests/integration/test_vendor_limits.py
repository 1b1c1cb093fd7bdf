"""A vendor's published limit is held over all workers and actions, measured at the vendor; and effects are once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.stack import Stack, wait_for
from tiercast.testing.vendors import Window
from tiercast.testing.vendors.klaviyo import KEY, FakeKlaviyo
from tiercast.testing.vendors.voucherify import APP_ID, APP_TOKEN, FakeVoucherify

EVENTS = 60

KLAVIYO = """
[limits.klaviyo]
rate = "8/1s"

[actions.tier]
kind = "klaviyo"
base_url = "{url}"
token = "env:KEY"
limit = "klaviyo"
id = "{{{{ event.customer.source_id }}}}"
properties.tier = "{{{{ event.tier.name }}}}"

[actions.campaign]
kind = "klaviyo"
base_url = "{url}"
token = "env:KEY"
limit = "klaviyo"
id = "{{{{ event.customer.source_id }}}}"
properties.campaign = "{{{{ event.campaign.name }}}}"

[[rules]]
on = "customer.loyalty.tier.*"
do = ["tier", "campaign"]
"""

REWARD = """
[actions.gift]
kind = "voucherify-reward"
base_url = "{url}"
app_id = "env:APP_ID"
app_token = "env:APP_TOKEN"
campaign = "Gifts"
identifier = "source_id"
customer = "{{{{ event.customer.source_id }}}}"
rate = "1000/s"
timeout = 2
backoff = 0.2
backoff_max = 0.5

[[rules]]
on = "customer.loyalty.tier.*"
do = ["gift"]
"""


@pytest.fixture
def klaviyo() -> Iterator[FakeKlaviyo]:
    with FakeKlaviyo(limits={"profiles": (Window(10, 1.0),)}) as vendor:
        yield vendor


def test_two_actions_of_one_limit_hold_it_over_four_processes(tmp_path: Path, klaviyo: FakeKlaviyo) -> None:
    # Given jobs of two actions that share four fifths of what the vendor takes, as the kinds do by default
    with Stack(tmp_path, KLAVIYO.format(url=klaviyo.url), env={"KEY": KEY}) as stack:
        stack.start_web()
        for number in range(EVENTS):
            stack.send(customer_id=f"cust_{number}", source_id=f"c{number}")
        # When four processes perform them
        stack.start_worker(concurrency=4)
        wait_for(lambda: stack.states() == {"done": 2 * EVENTS}, seconds=60)
    # Then the vendor refused no call, and the rate was used
    assert klaviyo.refused == 0
    assert klaviyo.most_in(1.0) <= 10
    took = klaviyo.requests[-1].at - klaviyo.requests[0].at
    assert (2 * EVENTS - 1) / took >= 7
    assert len(klaviyo.effects()["profiles"]) == EVENTS
    assert all(len(properties) == 2 for properties in klaviyo.effects()["profiles"].values())


def test_each_customer_gets_one_code_though_processes_are_killed_between_call_and_settling(tmp_path: Path) -> None:
    # Given rewards whose calls are carried out and never answered
    env = {"APP_ID": APP_ID, "APP_TOKEN": APP_TOKEN, "TIERCAST_LEASE": "1"}
    with FakeVoucherify() as vendor, Stack(tmp_path, REWARD.format(url=vendor.url), env=env) as stack:
        vendor.codes["Gifts"] = [f"CODE-{number}" for number in range(20)]
        stack.start_web()
        stack.start_worker(concurrency=2)
        for number in range(6):
            vendor.faults.append("hang after")
            before = len(vendor.publications)
            stack.send(customer_id=f"cust_{number}", source_id=f"c{number}")
            wait_for(lambda before=before: len(vendor.publications) > before)  # type: ignore[misc]
            # When the processes that made them are killed
            for child in psutil.Process(stack.processes["worker"].pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "worker.aside" not in child.cmdline():
                        child.kill()
        wait_for(lambda: stack.states() == {"done": 6}, seconds=90)
        # Then each customer has one code
        assert sorted(one.customer for one in vendor.publications) == sorted(vendor.effects()["codes"].values())
        assert len({one.customer for one in vendor.publications}) == len(vendor.publications) == 6
