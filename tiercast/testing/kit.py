"""The checks K1 to K20, by which a kind earns its level; needs pytest.

    class TestStars(KindKit):
        action_class = GrantStars
        server = FakeStars
        options = {"customer": "{{ event.customer.id }}", "stars": 3}

`server` is a `FakeVendor` of the kind's own; its options reach it. `options` are what a configuration would hold,
templates too, with secrets resolved. A check that does not apply is left out with a reason, in `not_applicable`. Run
`pytest --record-kinds` to write the level beside the kind's code, where `tiercast kinds show` reads it.
"""

# ruff: noqa: S101 - these are tests

from __future__ import annotations

import copy
import html
import inspect
import logging
import math
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from marshmallow import RAISE, validate

from .. import __version__
from ..actions import Action, Done, Halt, Job, Permanent, RateLimited, RetryLater, Secret, Skip, Unavailable, Unknown
from ..config.templates import Options, template_defaults
from ..conformance import options_of, read_record
from ..event import Event
from ..outbound.waits import MAX_WAIT
from ..runner import ActionRunner
from ..runner import Answer as Outcome
from ..samples import sample_event
from .contract import OUTCOMES, ActionContract
from .vendors.server import Answer, FakeVendor, Request, Window

#: What each status means, unless the kind's `differs` says otherwise.
COMMON_MEANINGS: Mapping[int, tuple[type[Exception], ...]] = {
    301: (Halt,),
    307: (Halt,),
    400: (Permanent,),
    401: (Halt,),
    402: (Halt,),
    403: (Halt,),
    404: (Halt, Permanent),
    405: (Halt,),
    408: (RetryLater,),
    409: (Permanent, RetryLater),
    410: (Halt,),
    413: (Permanent,),
    415: (Halt,),
    422: (Permanent,),
    423: (Permanent, RetryLater),
    425: (RetryLater,),
    429: (RateLimited,),
    500: (Unavailable, Unknown),
    502: (Unavailable, Unknown),
    503: (Unavailable, Unknown),
    504: (Unavailable, Unknown),
}

#: Bodies that an answer of status 200 can have, by what is wrong with them.
ODD_BODIES: Mapping[str, bytes] = {
    "empty": b"",
    "cut off": b'{"status": "COM',
    "no JSON": b"<html><body>Welcome</body></html>",
    "a list": b"[1, 2, 3]",
    "a text": b'"ok"',
    "null": b"null",
    "deep": b"[" * 50_000,
    "huge": b'{"x": "' + b"x" * 9_000_000 + b'"}',
}

#: Values that would do harm where they are taken for more than values.
HOSTILE = (
    "a\r\nx-injected: 1",
    "nul\x00byte",
    "../../admin",
    "..%2F..%2Fadmin",
    "half\ud83dcharacter",
    "x" * 10_000,
    "\u202eright to left",
    "{{ event.customer.email }}",
    '"}],"x":[{"y":"',
    "?admin=true&x=",
)

_SECRET_NAMES = ("token", "key", "secret", "password")
_SECRET_EXCEPTIONS = ("key_header", "id_property")
_HOSTS = ("host", "region", "base_url", "instance", "subdomain", "domain", "account", "version", "server")

#: Seconds beyond its time-out in which an attempt has to end.
_GRACE_SECONDS = 1.0


class KindKit(ActionContract):
    """K1 to K20, on top of what every kind passes. Derive from it, and set `action_class`, `server` and `options`."""

    #: Makes the vendor that the kind calls; None for a kind that calls none.
    server: ClassVar[type[FakeVendor] | None] = None
    #: Where a status means something else than in `COMMON_MEANINGS`; None where the job is done.
    differs: ClassVar[Mapping[int, type[Exception] | tuple[type[Exception], ...] | None]] = {}
    #: Checks that do not apply to the kind, each with the reason.
    not_applicable: ClassVar[Mapping[str, str]] = {}
    #: The page that describes the kind; by default docs/kinds/KIND.md beside the tests' folder.
    page: ClassVar[Path | None] = None
    #: Seconds of processor time that importing the kind may take, beyond what it shares with others.
    import_seconds: ClassVar[float] = 0.025
    #: Seconds that the attempts of the checks of time may take.
    short_seconds: ClassVar[float] = 0.5
    #: An option of the field `Properties` that the vendor has: its name there, or None.
    a_property: ClassVar[str | None] = None

    vendor: FakeVendor

    # --- what a kind may have to say

    def prepare(self, job: Job) -> None:
        """Have the vendor know whom the job is about, where it does not take everyone."""

    def key_in(self, request: Request) -> str | None:  # noqa: ARG002 - for kinds to override
        """The idempotency key of a request that changes something; None where the vendor takes none."""
        return None

    def spoil(self, job: Job) -> None:
        """Have the vendor refuse this job for good, by its own item where it has such answers."""
        raise NotImplementedError("say how the vendor refuses one job, or leave K8 and K10 out with a reason")

    def spoil_call(self, job: Job) -> None:
        """Have the vendor refuse every call that holds this job, without saying which it is."""
        self.spoil(job)

    # --- what the checks use

    @pytest.fixture(autouse=True)
    def _kit(self, request: pytest.FixtureRequest) -> Iterator[None]:
        found = re.match(r"test_k([0-9]+)_", request.node.name)
        if found and (reason := self.not_applicable.get(f"K{int(found[1])}")):
            pytest.skip(reason)
        if self.server is None:
            yield
            return
        with self.server() as vendor:
            self.vendor = vendor
            yield

    def _all_options(self) -> dict[str, Any]:
        defaults = template_defaults(self.action_class.Options())
        return {**defaults, **self.options, **(self.vendor.options() if self.server is not None else {})}

    def made(self, *, timeout: float = 5.0, **options: Any) -> tuple[ActionRunner, Options]:
        """An action of the kind that calls the vendor, and its options to render."""
        loaded = Options(self.action_class.Options(unknown=RAISE), {**self._all_options(), **options})
        return ActionRunner(self.action_class("under-test", loaded.raw, timeout=timeout)), loaded

    @contextmanager
    def kit(self, *, timeout: float = 5.0, **options: Any) -> Iterator[_Kit]:
        """An action with its loop, closed afterwards."""
        runner, loaded = self.made(timeout=timeout, **options)
        with runner:
            yield _Kit(runner, loaded, timeout, self.prepare)

    @contextmanager
    def running(self) -> Iterator[ActionRunner]:
        """The kind with its options, on a loop of its own; closed afterwards."""
        runner, _ = self.made()
        with runner:
            yield runner

    def job(self, action: Action, event: Event | None = None) -> Job:
        """A job of the action, with its options rendered for the event."""
        found = event or sample_event()
        loaded = Options(self.action_class.Options(unknown=RAISE), self._all_options())
        key = f"{found.key}:{action.name}"
        job = Job(key=key, event=found, attempt=1, options=loaded.render(found, key), timeout=action.timeout)
        self.prepare(job)
        return job

    @pytest.mark.parametrize("changes", [{"email": None, "name": None, "source_id": None}, {"customer": False}])
    def test_it_bears_nulls(self, changes: Mapping[str, Any]) -> None:
        with self.running() as runner:
            try:
                job = self.job(runner.action, sample_event(**changes))
            except (Skip, Permanent):
                return  # a required option is empty: the kind is not called
            self.check(runner, job)

    def needs_server(self) -> type[FakeVendor]:
        """The vendor's class, as `needs_vendor`."""
        assert self.server is not None, "name a server, or leave this check out with a reason in not_applicable"
        return self.server

    def needs_vendor(self) -> FakeVendor:
        """The vendor; the check fails where the kind has none and does not say that it does not apply."""
        assert self.server is not None, "name a server, or leave this check out with a reason in not_applicable"
        return self.vendor

    def allowed(self, outcome: Outcome, job: Job, action: Action) -> None:
        """Check that an outcome is one of the kind's, and shows nothing."""
        self.check_outcome(action, job, outcome)

    # --- K1 to K7

    def test_k1_options_are_described_and_secrets_are_secret(self) -> None:
        for name, option in self.action_class.Options().fields.items():
            key = option.data_key or name
            assert option.metadata.get("description"), f"option {key} has no description in its metadata"
            if any(part in key for part in _SECRET_NAMES) and key not in _SECRET_EXCEPTIONS:
                assert isinstance(option, Secret), f"option {key} is a secret by its name: declare it Secret"
            if key in _HOSTS and not isinstance(option, Secret):
                fixed = not getattr(option, "templates", True) or isinstance(option.validate, validate.OneOf)
                assert fixed, f"option {key} takes templates: an event could choose who gets the credential"

    def test_k2_making_it_opens_nothing(self) -> None:
        self.made()[0].close()
        before = _open_files(), threading.active_count()
        runner, _ = self.made()
        assert (_open_files(), threading.active_count()) == before, "the constructor opened a connection or a thread"
        runner.close()

    def test_k2_importing_it_is_quick(self) -> None:
        text = (
            "import time, marshmallow, structlog, tiercast.outbound, tiercast.actions, tiercast.config.load\n"
            "began = time.process_time()\n"
            f"import {self.action_class.__module__}\n"
            "print(time.process_time() - began)"
        )
        took = min(_seconds_of(text) for _ in range(3))
        assert took <= self.import_seconds, f"importing takes {took * 1000:.0f} ms: import what is heavy on first use"

    def test_k3_requests_are_ours_and_follow_nothing(self) -> None:
        vendor = self.needs_vendor()
        with self.kit() as kit:
            assert _is_done(kit.perform()), "the vendor of the tests takes what the kind sends"
            for request in vendor.requests:
                assert request.headers.get("user-agent") == f"tiercast/{__version__}"
                assert len(request.body) <= vendor.max_body_bytes
            vendor.requests.clear()
            vendor.script = lambda _: Answer(status=307, headers={"location": f"{vendor.url}/elsewhere"})
            kit.perform()
            assert not [request for request in vendor.requests if request.route == "/elsewhere"]

    def test_k3_proxies_of_the_environment_are_not_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.needs_vendor()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        with self.kit() as kit:
            assert _is_done(kit.perform())

    def test_k4_a_repeat_has_its_effect_once(self) -> None:
        vendor = self.needs_vendor()
        with self.kit() as kit:
            job = kit.job()
            assert _is_done(kit.outcome(job))
            once, keys = copy.deepcopy(vendor.effects()), self._keys()
            vendor.requests.clear()
            if self.action_class.repeatable:
                kit.outcome(kit.again(job))
                assert vendor.effects() == once, "a second attempt of one job had an effect of its own"
                assert self._keys() == keys, "two attempts of one job carry different keys"
            else:
                assert kit.runner.confirm(kit.again(job)) is True
            vendor.requests.clear()
            kit.outcome(kit.job())
            assert not keys or not set(keys) & set(self._keys()), "two jobs carry one key"

    def _keys(self) -> list[str]:
        return [key for request in self.vendor.requests if _changes(request) and (key := self.key_in(request))]

    @pytest.mark.parametrize("status", [*COMMON_MEANINGS, 202, 204, 207])
    def test_k5_every_status_has_a_meaning(self, status: int) -> None:
        vendor = self.needs_vendor()
        vendor.script = lambda _: Answer(status=status, body=None)
        with self.kit() as kit:
            job = kit.job()
            outcome = kit.outcome(job)
            self.allowed(outcome, job, kit.action)
            if status in self.differs:
                wanted = self.differs[status]
                assert _is_done(outcome) if wanted is None else isinstance(outcome, wanted), f"{status}: {outcome!r}"
            elif status in COMMON_MEANINGS:
                assert isinstance(outcome, COMMON_MEANINGS[status]), f"{status} became {outcome!r}"

    @pytest.mark.parametrize("body", ODD_BODIES)
    @pytest.mark.parametrize("status", [200, 400, 502])
    def test_k5_every_body_has_a_meaning(self, body: str, status: int) -> None:
        vendor = self.needs_vendor()
        vendor.script = lambda _: Answer(status=status, body=ODD_BODIES[body])
        with self.kit() as kit:
            job = kit.job()
            outcome = kit.outcome(job)
            self.allowed(outcome, job, kit.action)
            if status >= 400 and status not in self.differs:
                assert isinstance(outcome, COMMON_MEANINGS[status])

    @pytest.mark.parametrize(
        ("header", "least", "most"),
        [
            ("17", 17, 17),
            ("0", 0, 0),
            ("-5", None, None),
            (None, None, None),
            ("604800", 1, MAX_WAIT),
            ("Fri, 31 Dec 2100 23:59:59 GMT", 1, MAX_WAIT),
            ("soon", None, None),
        ],
    )
    def test_k6_429_waits_for_everyone_within_bounds(
        self, header: str | None, least: float | None, most: float | None
    ) -> None:
        vendor = self.needs_vendor()
        headers = {} if header is None else {"retry-after": header}
        vendor.script = lambda _: Answer(status=429, headers=headers)
        with self.kit() as kit:
            outcome = kit.perform()
            assert isinstance(outcome, RateLimited), f"429 became {outcome!r}"
            assert outcome.everyone
            if least is None or most is None:
                assert outcome.after is None or 0 <= outcome.after <= MAX_WAIT
            else:
                assert outcome.after is not None
                assert least <= outcome.after <= max(most, 0)

    def test_k6_the_vendors_own_429_is_understood(self) -> None:
        vendor = self.needs_vendor()
        vendor.script = lambda _: vendor.too_many(Window(10, 60.0, "SECONDLY"), 42.0)
        with self.kit() as kit:
            outcome = kit.perform()
            assert isinstance(outcome, RateLimited), f"the vendor's 429 became {outcome!r}"
            assert outcome.after is None or 0 < outcome.after <= MAX_WAIT

    @pytest.mark.parametrize("fault", ["hang up", "hang", "drip"])
    def test_k7_it_ends_in_time_and_says_what_it_knows(self, fault: str) -> None:
        vendor = self.needs_vendor()
        faults = {"hang up": Answer(hang_up=True), "hang": Answer(hang=True), "drip": Answer(body=b"x" * 500, drip=0.1)}
        vendor.script = lambda _: copy.copy(faults[fault])
        with self.kit(timeout=self.short_seconds) as kit:
            job = kit.job()
            began = time.monotonic()
            outcome = kit.outcome(job)
            assert time.monotonic() - began < self.short_seconds + _GRACE_SECONDS, "it outlasted its time-out"
            self.allowed(outcome, job, kit.action)
            if fault != "drip":
                assert isinstance(outcome, Unknown | RetryLater), f"{fault} became {outcome!r}"
                if not self.action_class.repeatable and any(map(_changes, vendor.requests)):
                    assert isinstance(outcome, Unknown), "a call that may have had its effect is not tried again"

    def test_k7_a_vendor_that_cannot_be_reached_is_unavailable(self) -> None:
        vendor = self.needs_vendor()
        with self.kit(timeout=self.short_seconds) as kit:
            vendor.__exit__(None, None, None)
            began = time.monotonic()
            outcome = kit.perform()
            assert isinstance(outcome, Unavailable), f"a refused connection became {outcome!r}"
            assert time.monotonic() - began < self.short_seconds + _GRACE_SECONDS

    # --- K8 to K12: bulk kinds

    def _bulk(self) -> FakeVendor:
        assert self.action_class.is_bulk(), "leave this check out where the kind has no bulk call"
        return self.needs_vendor()

    @pytest.mark.parametrize("more", [1 - 1, 1])
    def test_k8_as_many_as_one_call_takes_and_one_above(self, more: int) -> None:
        vendor = self._bulk()
        number = min(self.action_class.max_batch, 100) + more
        with self.kit() as kit:
            outcomes = kit.many([kit.job(place) for place in range(number)])
            assert all(map(_is_done, outcomes)), [str(outcome) for outcome in outcomes if not _is_done(outcome)][:3]
            assert max(len(request.body) for request in vendor.requests) <= vendor.max_body_bytes

    @pytest.mark.parametrize("bad", [(0,), (2,), (4,), (1, 3), (0, 1, 2, 3, 4)])
    def test_k8_each_job_has_the_outcome_of_its_own_item(self, bad: Sequence[int]) -> None:
        self._bulk()
        with self.kit() as kit:
            jobs = [kit.job(place) for place in range(5)]
            for place in bad:
                self.spoil(jobs[place])
            outcomes = kit.many(jobs)
            for place, outcome in enumerate(outcomes):
                self.allowed(outcome, jobs[place], kit.action)
                assert _is_done(outcome) == (place not in bad), f"job {place} of {bad}: {outcome!r}"

    def test_k9_one_customer_twice_is_settled_in_order(self) -> None:
        vendor = self._bulk()
        tiers = ("Silver", "Gold")

        def pair(kit: _Kit, *, upper: bool) -> list[Job]:
            emails = ("ada@example.com", "ADA@example.com" if upper else "ada@example.com")
            named: dict[str, Any] = {"customer_id": "cust_twice", "source_id": "src-twice", "name": "Ada"}
            return [
                kit.made(sample_event(id=f"evcus_{tier}", email=email, tier=tier, **named))
                for tier, email in zip(tiers, emails, strict=True)
            ]

        for upper in (False, True):
            with self.kit() as kit:
                assert all(map(_is_done, kit.many(pair(kit, upper=upper)))), "a customer twice in one call"
        together = copy.deepcopy(vendor.effects())
        with self.needs_server()() as other:
            self.vendor = other
            for upper in (False, True):
                with self.kit() as kit:
                    for job in pair(kit, upper=upper):
                        assert _is_done(kit.outcome(job))
            assert other.effects() == together, "together they have another effect than one after the other"

    def test_k10_a_refusal_of_the_whole_call_hurts_one_job(self) -> None:
        vendor = self._bulk()
        number = min(self.action_class.max_batch, 32)
        with self.kit() as kit:
            jobs = [kit.job(place) for place in range(number)]
            self.spoil_call(jobs[number // 3])
            outcomes = kit.many(jobs)
            wrong = [place for place, outcome in enumerate(outcomes) if not _is_done(outcome)]
            assert wrong == [number // 3]
            assert len(vendor.requests) <= 2 * math.ceil(math.log2(max(2, number))) + 2

    def test_k11_time_that_is_used_up_loses_and_doubles_nothing(self) -> None:
        vendor = self._bulk()
        own = type(vendor).answer

        def slowly(request: Request) -> Answer | None:
            vendor.script = None
            answer = own(vendor, request)
            vendor.requests.pop()
            vendor.script = slowly
            answer.delay = 0.2
            return answer

        vendor.script = slowly
        with self.kit(timeout=1.0) as kit:
            # Of one customer, so that each takes a call of its own.
            named: dict[str, Any] = {"customer_id": "cust_slow", "source_id": "src-slow", "email": "slow@example.com"}
            jobs = [kit.made(sample_event(id=f"evcus_{place}", **named)) for place in range(12)]
            began = time.monotonic()
            outcomes = kit.many(jobs)
            assert time.monotonic() - began < 1.0 + _GRACE_SECONDS
            for job, outcome in zip(jobs, outcomes, strict=True):
                if outcome != _LEFT_OUT:
                    self.allowed(outcome, job, kit.action)
            assert any(map(_is_done, outcomes)), "nothing was done in a second"
            assert vendor.requests, "nothing was sent"

    def test_k12_single_and_bulk_have_the_same_effect(self) -> None:
        vendor = self._bulk()
        event = sample_event(id="evcus_same", customer_id="cust_same", source_id="src-same", email="same@example.com")
        with self.kit() as kit:
            (bulk,) = kit.many([kit.made(event)])
        together = copy.deepcopy(vendor.effects())
        with self.needs_server()() as other:
            self.vendor = other
            with self.kit() as kit:
                single = kit.single(kit.made(event))
            assert (type(bulk), other.effects()) == (type(single), together)

    # --- K13 to K20

    @pytest.mark.parametrize("status", [200, 400, 401, 404, 422, 429, 500])
    @pytest.mark.parametrize("form", ["json", "text", "html", "percent", "escaped", "upper"])
    def test_k13_what_the_vendor_echoes_is_not_shown(
        self, status: int, form: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        vendor = self.needs_vendor()
        event = sample_event(name="Zoë Quartermaine", email="zoe.q@example.com", source_id="src-q7731")

        def echo(request: Request) -> Answer:
            said = [request.headers.get("authorization", ""), *request.headers.values(), request.body.decode("latin-1")]
            said += ["Zoë Quartermaine", "zoe.q@example.com", "src-q7731"]
            return _echoed(status, form, " | ".join(said)[:4000])

        vendor.script = echo
        caplog.set_level(logging.DEBUG)
        with self.kit() as kit:
            job = kit.made(event)
            outcome = kit.outcome(job)
            self.allowed(outcome, job, kit.action)
            written = f"{outcome!r} {outcome} {caplog.text} {''.join(capsys.readouterr())}"
            for hidden in ("Quartermaine", "zoe.q@example.com", "src-q7731", *self.secrets(kit.action)):
                assert hidden.casefold() not in written.casefold(), "an echo of the vendor's is shown"

    @pytest.mark.parametrize("value", HOSTILE)
    def test_k14_hostile_values_stay_values(self, value: str) -> None:
        vendor = self.needs_vendor()
        events = [
            sample_event(name=value, tier=value),
            sample_event(email=value, source_id=value),
            sample_event(customer_id=value),
        ]
        with self.kit() as kit:
            for event in events:
                try:
                    job = kit.made(event)
                except (Skip, Permanent):
                    continue
                self.allowed(kit.outcome(job), job, kit.action)
            vendor.requests[:], seen = [], list(vendor.requests)
            for request in seen:
                assert "x-injected" not in request.headers, "a value became a header"
                assert "/admin" not in request.route, "a value climbed out of the path"
            assert _is_done(kit.perform()), "a neighbour of a hostile value was hurt"

    def test_k15_events_and_jobs_are_not_changed(self) -> None:
        event = sample_event()
        data = copy.deepcopy(event.data)
        with self.kit() as kit:
            job = kit.made(event)
            options = copy.deepcopy(dict(job.options))
            kit.outcome(job)
            assert (event.data, dict(job.options)) == (data, options), "the kind changed what others share"

    def test_k15_null_is_left_out(self) -> None:
        if self.a_property is None:
            assert "properties" not in self.action_class.Options().fields, "name a property that the vendor has"
            return
        vendor, name = self.needs_vendor(), self.a_property
        given = {**self.options.get("properties", {}), name: "{{ event.data.nothing_of_the_kind }}"}
        with self.kit(properties=given) as kit:
            kit.perform()
            sent = b" ".join(request.body for request in vendor.requests)
            assert f'"{name}"'.encode() not in sent, "a property without a value is left out"

    def test_k16_it_closes_what_it_opened(self) -> None:
        with self.kit() as kit:
            kit.perform()
        before = _open_files(), threading.active_count()
        with self.kit() as kit:
            for _ in range(3):
                kit.perform()
            kit.runner.close()
        assert _settles(lambda: _open_files() <= before[0] and threading.active_count() <= before[1]), (
            "a thread or a connection is left over"
        )

    def test_k16_closing_during_a_call_does_not_hang(self) -> None:
        if self.server is None:
            return
        self.vendor.script = lambda _: Answer(hang=True)
        with self.kit(timeout=self.short_seconds) as kit:
            if self.action_class.is_async():
                kit.runner.perform_cancelled(kit.job(), after=0.1)
            began = time.monotonic()
            kit.runner.close()
            assert time.monotonic() - began < _GRACE_SECONDS + self.short_seconds

    @pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
    def test_k17_confirm_changes_nothing_and_never_guesses(self, status: int) -> None:
        vendor = self.needs_vendor()
        with self.kit() as kit:
            job = kit.job()
            vendor.script = lambda _: Answer(status=status, body=b"<html>")
            try:
                confirmed = kit.runner.confirm(job)
            except Exception:
                confirmed = None  # whatever it raises means "not yet known"
            assert confirmed is None, "a failed look is no answer"
            assert not list(filter(_changes, vendor.requests)), "confirm sends nothing that changes"

    def test_k18_a_refused_credential_holds_the_lane_and_is_not_asked_for_in_a_loop(self) -> None:
        vendor = self.needs_vendor()
        vendor.script = lambda _: Answer(status=401, body={"message": "no"})
        with self.kit() as kit:
            outcomes = [kit.outcome(kit.job(place)) for place in range(3)]
            assert all(isinstance(outcome, Halt) for outcome in outcomes)
            assert len(vendor.requests) <= 3 * 4

    def test_k19_a_page_describes_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        page = self._page()
        assert page.exists(), f"there is no page {page}"
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        name = self.action_class.kind
        examples = [block for block in blocks if f'kind = "{name}"' in block]
        assert examples, f'{page} has no TOML example with kind = "{name}"'
        for block in examples:
            self._check_example(block, tmp_path, monkeypatch)

    def _check_example(self, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from ..config.load import load_config
        from ..settings import load_settings

        for variable in re.findall(r'"env:(\w+)"', block):
            monkeypatch.setenv(variable, "https://hooks.example.com/a-secret-of-tests")
        place = f"{self.action_class.__module__}:{self.action_class.__qualname__}"
        path = tmp_path / "tiercast.toml"
        path.write_text(block.replace(f'kind = "{self.action_class.kind}"', f'kind = "{place}"'), encoding="utf-8")
        named = {found["limit"] for found in tomllib.loads(block).get("actions", {}).values() if "limit" in found}
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f'\n[limits.{name}]\nrate = "1/s"\n' for name in named if f"[limits.{name}]" not in block)
        load_config(
            load_settings({"TIERCAST_CONFIG": str(path), "TIERCAST_WEBHOOK_SECRETS": "another-secret-of-tests"})
        )

    def test_k19_its_options_only_grow(self) -> None:
        record = read_record(self.action_class)
        if record is None:
            return
        now = options_of(self.action_class)
        gone = sorted(set(record.options) - set(now))
        assert not gone, f"options that configurations may hold are gone: {', '.join(gone)}"
        required = sorted(name for name, is_required in now.items() if is_required and not record.options.get(name))
        assert not required, f"options that configurations need not hold are required now: {', '.join(required)}"

    def test_k20_verify_proves_the_credential_without_an_effect(self) -> None:
        vendor = self.needs_vendor()
        assert self.action_class.can_verify(), "leave this check out where the vendor has no harmless call"
        with self.kit() as kit:
            before = copy.deepcopy(vendor.effects())
            assert isinstance(kit.runner.verify(timeout=5), str | None)
            vendor.script = lambda _: Answer(status=401, body={"message": "no"})
            with pytest.raises(Halt) as refused:
                kit.runner.verify(timeout=5)
            assert not [secret for secret in self.secrets(kit.action) if secret in str(refused.value)]
            vendor.script = lambda _: Answer(status=503)
            with pytest.raises((RetryLater, Unknown)):
                kit.runner.verify(timeout=5)
            assert vendor.effects() == before
            assert not list(filter(_changes, vendor.requests)), "verify sends nothing that changes"

    def _page(self) -> Path:
        if self.page is not None:
            return self.page
        here = Path(inspect.getfile(type(self))).resolve()
        for folder in here.parents:
            if (folder / "docs" / "kinds").is_dir():
                return folder / "docs" / "kinds" / f"{self.action_class.kind}.md"
        return here.parent / "docs" / "kinds" / f"{self.action_class.kind}.md"


class _Kit:
    """An action on a loop of its own, and jobs of it with rendered options."""

    def __init__(self, runner: ActionRunner, options: Options, timeout: float, prepare: Callable[[Job], None]) -> None:
        self._prepare = prepare
        self.runner = runner
        self.action = runner.action
        self._options = options
        self._timeout = timeout

    def job(self, number: int | None = None) -> Job:
        """A job of a new customer."""
        if number is None:
            return self.made(sample_event())
        return self.made(
            sample_event(customer_id=f"cust_{number}", source_id=f"src-{number}", email=f"c{number}@example.com")
        )

    def made(self, event: Event) -> Job:
        """A job for an event; Skip and Permanent of its options are raised."""
        key = f"{event.key}:under-test"
        options = self._options.render(event, key)
        job = Job(key=key, event=event, attempt=1, options=options, timeout=self._timeout)
        self._prepare(job)
        return job

    def again(self, job: Job) -> Job:
        """The next attempt of a job; long enough after the first that an absence would show."""
        return Job(key=job.key, event=job.event, attempt=2, options=job.options, timeout=job.timeout, since=1_000_000.0)

    def perform(self) -> Outcome:
        """Perform a job of a new customer."""
        return self.outcome(self.job())

    def outcome(self, job: Job) -> Outcome:
        """Perform a job, by the bulk call where there is one; what it raises on purpose is the outcome."""
        if self.action.is_bulk():
            return self.many([job])[0]
        return self.single(job)

    def single(self, job: Job) -> Outcome:
        """Perform a job by the single call."""
        try:
            return self.runner.perform(job, timeout=job.timeout + 2 * _GRACE_SECONDS)
        except OUTCOMES as error:
            return error
        except TimeoutError:
            raise AssertionError("it outlasted its time-out: give `job.timeout` to each call") from None

    def many(self, jobs: list[Job]) -> list[Outcome]:
        """Perform jobs by the bulk call; those that are left out have the outcome `_LEFT_OUT`."""
        try:
            found = self.runner.perform_many(jobs, timeout=jobs[0].timeout + 2 * _GRACE_SECONDS)
            rest: Outcome = _LEFT_OUT
        except OUTCOMES as error:
            found, rest = [], error
        except TimeoutError:
            raise AssertionError("it outlasted its time-out: give what is left of it to each call") from None
        outcomes = {job.key: outcome for job, outcome in found}
        assert len(outcomes) == len(found), "a job was answered for twice"
        return [outcomes.get(job.key, rest) for job in jobs]


#: The outcome of a job that a bulk call did not answer for.
_LEFT_OUT = RetryLater("the bulk call left it out")


def _is_done(outcome: Outcome) -> bool:
    return outcome is None or isinstance(outcome, str | Done)


def _changes(request: Request) -> bool:
    return request.method not in {"GET", "HEAD"}


def _echoed(status: int, form: str, text: str) -> Answer:
    forms: Mapping[str, tuple[str, Any]] = {
        "json": ("application/json", {"message": text, "errors": [{"message": text, "detail": text}]}),
        "text": ("text/plain", text.encode("utf-8", "replace")),
        "html": ("text/html", html.escape(text).encode("utf-8", "replace")),
        "percent": ("text/plain", quote(text).encode()),
        "escaped": ("application/json", {"message": html.escape(text)}),
        "upper": ("application/json", {"error": text.upper()}),
    }
    kind, body = forms[form]
    return Answer(status=status, body=body, headers={"content-type": kind})


def _open_files() -> int:
    """How many files and sockets this process has open."""
    try:
        return len(list(Path("/proc/self/fd").iterdir()))
    except OSError:
        return 0


def _settles(holds: Callable[[], bool]) -> bool:
    """Whether a condition comes to hold within a second."""
    ends = time.monotonic() + 1.0
    while not holds():
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True


def _seconds_of(text: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": _PATH}
    )
    return float(done.stdout.split()[-1])


_PATH = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
