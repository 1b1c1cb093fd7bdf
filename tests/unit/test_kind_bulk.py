"""Bulk calls settle each job by its own item, whatever the vendor refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tiercast.actions import Action, Halt, Job, Permanent, RateLimited, RetryLater, Skip, Unavailable, Unknown
from tiercast.outbound import Bulk, Deadline, Item, TooLarge, encode_json, json_list
from tiercast.testing import make_action, make_job


class _Nothing(Action):
    """Do nothing; the jobs of these tests belong to it."""

    kind = "nothing"


ACTION = make_action(_Nothing, {})


def job(who: str, value: object = 1) -> Job:
    return make_job(ACTION, who=who, value=value)


class Vendor:
    """Takes calls of items, keeps what it took, and refuses as it is told."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[list[str]] = []
        self.kept: dict[str, object] = {}
        self.refuses: Callable[[Sequence[Item]], Exception | None] = lambda items: None
        self.forgets: set[str] = set()
        self.bulk = Bulk(item=self.item, send=self.send, **{"most": 100, **options})

    def item(self, job: Job) -> Item:
        who = job.options.who.strip()
        if not who:
            raise Skip("option who is empty for this event")
        return Item(job, encode_json({"who": who, "value": job.options.value}), identity=who.casefold())

    async def send(self, items: Sequence[Item], seconds: float) -> Mapping[str, str | Exception]:
        found = json.loads(json_list(items))
        self.calls.append([one["who"] for one in found])
        if error := self.refuses(items):
            raise error
        answered: dict[str, str | Exception] = {}
        # In another order than they were sent in (failure 32).
        for item, one in reversed(list(zip(items, found, strict=True))):
            if one["who"] in self.forgets:
                continue
            if one["value"] == "bad":
                answered[item.job.key] = Permanent("bad value", code="400 BAD")
            else:
                self.kept[one["who"]] = one["value"]
                answered[item.job.key] = f"wrote {one['value']}"
        return answered

    def settle(self, jobs: list[Job], seconds: float = 5.0) -> list[object]:
        """What became of each job, in their order; "left out" where it was not told."""

        async def settle() -> list[tuple[Job, object]]:
            return [settled async for settled in self.bulk.settle(jobs, Deadline(seconds))]

        told = asyncio.run(settle())
        keys = [one.key for one, _ in told]
        assert len(keys) == len(set(keys)), "a job was settled twice"
        outcomes = {one.key: outcome for one, outcome in told}
        return [outcomes.get(one.key, "left out") for one in jobs]


def kinds(outcomes: list[object]) -> list[str]:
    return [type(outcome).__name__ if isinstance(outcome, Exception) else str(outcome) for outcome in outcomes]


def test_1_and_32_each_job_has_the_outcome_of_its_own_item() -> None:
    vendor = Vendor()
    outcomes = vendor.settle([job("a"), job("b", "bad"), job(" "), job("d", 2)])
    assert kinds(outcomes) == ["wrote 1", "Permanent", "Skip", "wrote 2"]
    assert vendor.calls == [["a", "b", "d"]]


def test_2_what_the_answer_does_not_mention_is_not_done() -> None:
    # Given an answer that leaves one item out
    vendor = Vendor()
    vendor.forgets = {"b"}
    outcomes = vendor.settle([job("a"), job("b"), job("c")])
    # Then it is sent again alone, and is still not done
    assert kinds(outcomes) == ["wrote 1", "Unknown", "wrote 1"]
    assert vendor.calls == [["a", "b", "c"], ["b"]]


def test_2_where_a_repeat_has_an_effect_what_is_not_mentioned_is_unknown_at_once() -> None:
    vendor = Vendor(repeatable=False)
    vendor.forgets = {"a", "b"}
    assert kinds(vendor.settle([job("a"), job("b"), job("c")])) == ["Unknown", "Unknown", "wrote 1"]
    assert len(vendor.calls) == 1


def test_3_one_identity_twice_goes_in_calls_of_its_own_in_order() -> None:
    vendor = Vendor()
    vendor.settle([job("Ada", 1), job("bob", 1), job("ada ", 2), job("ADA", 3)])
    assert vendor.calls == [["Ada", "bob"], ["ada"], ["ADA"]]
    assert vendor.kept["ADA"] == 3


def test_an_older_value_does_not_land_on_a_newer_one() -> None:
    # Given a customer whose first write is to be tried again later
    vendor = Vendor()
    vendor.refuses = lambda items: RetryLater("locked") if len(vendor.calls) == 1 else None
    # When three writes of one customer and one of another come together
    outcomes = vendor.settle([job("ada", 1), job("ada", 2), job("bob", 9), job("bob", 10)])
    # Then no write of them goes before that one
    assert kinds(outcomes) == ["RetryLater", "left out", "RetryLater", "left out"]


def test_8_a_refusal_of_the_whole_call_is_narrowed_down_to_the_bad_one() -> None:
    vendor = Vendor()

    def refuses(items: Sequence[Item]) -> Exception | None:
        return Permanent("no", code="400") if any(item.job.options.who == "c7" for item in items) else None

    vendor.refuses = refuses
    outcomes = vendor.settle([job(f"c{number}") for number in range(100)])
    assert [place for place, outcome in enumerate(outcomes) if outcome != "wrote 1"] == [7]
    assert isinstance(outcomes[7], Permanent)
    assert len(vendor.calls) <= 2 * 7 + 1


def test_21_a_call_keeps_to_the_vendors_count_and_bytes() -> None:
    vendor = Vendor(most=75)
    vendor.settle([job(f"c{number}") for number in range(160)])
    assert [len(call) for call in vendor.calls] == [75, 75, 10]
    # And one whose items are long, to its bytes
    sizes: list[int] = []
    vendor = Vendor(most_bytes=5000, around_bytes=12)
    vendor.refuses = lambda items: sizes.append(len(json_list(items)) + 10) or None  # type: ignore[func-returns-value]
    vendor.settle([job(f"c{number}", "x" * 900) for number in range(20)])
    assert max(sizes) <= 5000
    assert len(vendor.calls) <= 5


def test_an_item_that_is_too_large_alone_is_dead_and_hurts_nobody() -> None:
    vendor = Vendor(most_bytes=2000, around_bytes=100)
    outcomes = vendor.settle([job("a"), job("b", "x" * 5000), job("c")])
    assert kinds(outcomes) == ["wrote 1", "Permanent", "wrote 1"]
    assert "more than the vendor takes" in str(outcomes[1])
    assert vendor.calls == [["a", "c"]]


def test_a_call_that_is_too_large_for_the_vendor_is_halved() -> None:
    vendor = Vendor()
    vendor.refuses = lambda items: TooLarge("413") if len(items) > 3 else None
    outcomes = vendor.settle([job(f"c{number}") for number in range(10)])
    assert outcomes == ["wrote 1"] * 10
    assert [len(call) for call in vendor.calls if len(call) <= 3] == [3, 2, 3, 2]


_OF_ALL = [Halt("401"), RateLimited("429", after=3), RateLimited("429"), Unavailable("x", after=3), Unavailable("x")]


@pytest.mark.parametrize("error", _OF_ALL)
def test_what_holds_for_everyone_is_told_of_all_and_nothing_more_is_sent(error: Exception) -> None:
    vendor = Vendor(most=2)
    vendor.refuses = lambda items: error if len(vendor.calls) == 2 else None
    outcomes = vendor.settle([job(f"c{number}") for number in range(8)])
    assert outcomes == ["wrote 1"] * 2 + [error] * 6
    assert len(vendor.calls) == 2


def test_no_answer_to_one_call_says_nothing_of_the_next() -> None:
    vendor = Vendor(most=2, repeatable=False)
    vendor.refuses = lambda items: Unknown("no answer") if len(vendor.calls) == 2 else None
    outcomes = vendor.settle([job(f"c{number}") for number in range(6)])
    assert kinds(outcomes) == ["wrote 1", "wrote 1", "Unknown", "Unknown", "wrote 1", "wrote 1"]


def test_what_was_not_sent_when_the_time_is_used_up_is_left_out() -> None:
    vendor = Vendor(most=1)
    outcomes = vendor.settle([job("a"), job("b")], seconds=0.0)
    assert outcomes == ["left out", "left out"]
    assert vendor.calls == []


def test_one_job_alone_is_returned_or_raised() -> None:
    vendor = Vendor()

    async def one(value: object) -> object:
        return await vendor.bulk.one(job("a", value), Deadline(5))

    assert asyncio.run(one(7)) == "wrote 7"
    with pytest.raises(Permanent, match="bad value"):
        asyncio.run(one("bad"))
