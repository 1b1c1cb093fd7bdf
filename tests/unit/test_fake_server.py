"""What all fake vendors share: windows of calls, scripted failures, what they keep."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import httpx
import pytest

from tiercast.testing.vendors import Answer, FakeVendor, Fault, Request, Window
from tiercast.testing.vendors.server import Route


class Counter(FakeVendor):
    """Counts by name."""

    published: ClassVar = {"api": (Window(3, 60.0),)}
    max_body_bytes = 100

    def __init__(self, **more: Any) -> None:
        self.counts: dict[str, int] = {}
        super().__init__(**more)

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/counts/{}", self._add)
        yield Route("GET", "/counts/{}", self._read, "reads")

    def options(self) -> dict[str, Any]:
        return {"base_url": self.url}

    def effects(self) -> dict[str, int]:
        return dict(self.counts)

    def _add(self, request: Request, name: str) -> Answer:
        self.counts[name] = self.counts.get(name, 0) + 1
        return Answer(body={"count": self.counts[name]})

    def _read(self, request: Request, name: str) -> Answer:
        return Answer(body={"count": self.counts.get(name, 0)})


@pytest.fixture
def vendor() -> Iterator[Counter]:
    with Counter() as server:
        yield server


def add(vendor: Counter, name: str = "a") -> httpx.Response:
    return httpx.post(f"{vendor.url}/counts/{name}", timeout=10)


def test_a_route_answers_and_has_its_effect(vendor: Counter) -> None:
    assert add(vendor, "a%2Fb").json() == {"count": 1}
    assert vendor.effects() == {"a/b": 1}
    assert httpx.get(f"{vendor.url}/counts/a%2Fb").json() == {"count": 1}
    assert [request.path for request in vendor.calls("POST", "/counts/{}")] == ["/counts/a%2Fb"]
    assert httpx.get(f"{vendor.url}/other").status_code == 404


def test_calls_beyond_a_window_are_refused_without_effect(vendor: Counter) -> None:
    answers = [add(vendor) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert 50 < int(answers[-1].headers["retry-after"]) <= 60
    assert (vendor.effects(), vendor.refused) == ({"a": 3}, 2)
    # Another group of calls has windows of its own, here none.
    assert httpx.get(f"{vendor.url}/counts/a").status_code == 200


def test_a_window_takes_calls_again_when_it_has_passed() -> None:
    vendor = Counter(limits={"api": (Window(2, 1.0),)})
    answers = [
        vendor.answer(Request(method="POST", path="/counts/a", headers={}, body=b"", at=at))
        for at in (10.0, 10.5, 10.9, 11.0, 11.4, 11.6)
    ]
    assert [answer.status for answer in answers] == [200, 200, 429, 200, 429, 200]


@pytest.mark.parametrize(
    ("fault", "counted"),
    [
        ("500 before", 0),
        ("503 before", 0),
        ("500 after", 1),
        ("429", 0),
        ("hang up before", 0),
        ("hang up after", 1),
    ],
)
def test_a_fault_comes_before_the_effect_or_after_it(vendor: Counter, fault: Fault, counted: int) -> None:
    vendor.faults.append(fault)
    # A call that changes nothing does not use the fault up.
    assert httpx.get(f"{vendor.url}/counts/a").status_code == 200
    if fault.startswith("hang up"):
        with pytest.raises(httpx.RemoteProtocolError):
            add(vendor)
    else:
        assert add(vendor).status_code == int(fault[:3])
    assert vendor.effects().get("a", 0) == counted
    assert add(vendor).status_code == 200


def test_a_call_that_hangs_ends_with_the_server() -> None:
    with Counter() as vendor:
        vendor.faults.append("hang after")
        ended = threading.Event()

        def call() -> None:
            with pytest.raises(httpx.TransportError):
                httpx.post(f"{vendor.url}/counts/a", timeout=60)
            ended.set()

        caller = threading.Thread(target=call)
        caller.start()
        while not vendor.effects():
            assert not ended.wait(0.005)
    caller.join(20)
    assert ended.is_set()


def test_an_answer_can_be_scripted(vendor: Counter) -> None:
    vendor.queue.append(Answer(status=418, body={"tea": True}, headers={"x-pot": "1"}))
    vendor.script = lambda request: Answer(status=204) if request.path.endswith("/quiet") else None
    assert (answer := add(vendor)).status_code == 418
    assert (answer.json(), answer.headers["x-pot"]) == ({"tea": True}, "1")
    assert add(vendor, "quiet").status_code == 204
    assert add(vendor).json() == {"count": 1}
    vendor.queue.append(Answer(body={"slow": 1}, drip=0.001))
    assert add(vendor).json() == {"slow": 1}


def test_a_vendor_can_be_down_and_a_body_too_large(vendor: Counter) -> None:
    assert httpx.post(f"{vendor.url}/counts/a", content=b"x" * 101).status_code == 413
    vendor.down = True
    assert add(vendor).status_code == 503
    assert not vendor.effects()


def test_it_tells_the_most_calls_of_any_span(vendor: Counter) -> None:
    for at in (0.0, 0.5, 0.9, 1.0, 1.4, 5.0):
        vendor.requests.append(Request(method="POST", path="/", headers={}, body=b"", at=at))
    assert (vendor.most_in(1.0), vendor.most_in(0.1), vendor.most_in(10.0)) == (4, 1, 6)


def test_it_frees_its_port_and_its_thread() -> None:
    before = threading.active_count()
    with Counter() as vendor:
        assert add(vendor).status_code == 200
        url = vendor.url
    assert threading.active_count() == before
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_the_vendors_need_no_pytest() -> None:
    code = "import sys, tiercast.testing.vendors.voucherify; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
