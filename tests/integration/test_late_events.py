"""An event that arrives late changes nothing where `order = "latest"`, whatever fails in whatever order."""

from __future__ import annotations

import random
from collections import Counter

from tests.conftest import Clock
from tests.integration.test_ledger import claim, process, settle, state_of
from tiercast.ledger import Ledger
from tiercast.ledger.model import HeldJob, PlannedJob

#: How many random stories are told.
_STORIES = 1000

#: Expired leases of a story before its end, which may be another; one more than that, and a job counts as poison.
_LOSSES = 3


class Story:
    """One customer: upgraded, whose event arrives first, and joined before that, whose event arrives later.

    Args:
        seed: makes every choice; also the customer's number.
    """

    def __init__(self, ledger: Ledger, clock: Clock, seed: int) -> None:
        self.ledger, self.clock = ledger, clock
        self.random = random.Random(seed)
        self.number = 2 * seed
        self.upgraded, self.joined = f"upgraded{seed}", f"joined{seed}"
        self.arrived = False
        self.held: list[HeldJob] = []
        self.losses = 0
        #: Every performance, by event.
        self.performed: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def tell(self) -> None:
        """Do whatever comes, then have the late one arrive if it has not, and end it well."""
        self.arrive(self.upgraded, created=20)
        for _ in range(self.random.randint(1, 12)):
            self.random.choice((self.claim, self.claim, self.end, self.wait, self.late))()
        self.late()
        self.clock.pass_(31)
        self.held.clear()
        while state_of(self.ledger, self.upgraded) != "done":
            self.claim()
            for held in self.held:
                self.performed[held.event_id] += 1
                settle(self.ledger, held, "done")
            self.held.clear()
        assert claim(self.ledger) == claim(self.ledger, isolated=True) == []

    def arrive(self, event: str, *, created: int) -> None:
        group = PlannedJob(action="mail", order=f"customer{self.number}")
        process(self.ledger, event, group, number=self.number + (created == 10), created=created)

    def late(self) -> None:
        """The late one arrives; its copies change nothing."""
        if not self.arrived:
            self.arrived = True
            self.arrive(self.joined, created=10)

    def claim(self) -> None:
        self.held += claim(self.ledger, isolated=self.random.random() < 0.5)

    def end(self) -> None:
        """A job is performed, and that ends somehow: well, badly, or with nobody hearing of it."""
        if not self.held:
            return
        held = self.held.pop()
        how = self.random.choice(("done", "lost reply", "later", "released", "lost"))
        self.failures[how] += 1
        self.performed[held.event_id] += how != "released"
        if how in ("done", "lost reply"):
            settle(self.ledger, held, "done")
        if how == "lost reply":
            settle(self.ledger, held, "done")
        if how == "later":
            settle(
                self.ledger,
                held,
                "later",
                wait=self.random.choice((0.0, 3.0)),
                effect_possible=self.random.random() < 0.5,
            )
        if how == "released":
            settle(self.ledger, held, "released")

    def wait(self) -> None:
        """Time passes, more than a lease now and then; whoever holds something then has lost it."""
        seconds = self.random.choice((1.0, 5.0, 31.0))
        if seconds > 30:
            if self.losses == _LOSSES:
                return
            self.losses += 1
            self.held.clear()
        self.clock.pass_(seconds)


def test_a_joined_after_a_newer_upgraded_changes_nothing_in_1000_random_stories(timed: Ledger, clock: Clock) -> None:
    failures: Counter[str] = Counter()
    for seed in range(_STORIES):
        story = Story(timed, clock, seed)
        story.tell()

        assert (state_of(timed, story.upgraded), state_of(timed, story.joined)) == ("done", "superseded"), seed
        assert story.performed[story.joined] == 0, seed
        assert story.performed[story.upgraded] >= 1, seed
        failures += story.failures

    assert all(failures[how] > 50 for how in ("done", "lost reply", "later", "released", "lost")), failures
