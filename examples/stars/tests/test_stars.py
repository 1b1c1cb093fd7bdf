"""The conformance kit, and what is special about this kind. Run with: pytest"""

# ruff: noqa: S101 - these are tests

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tiercast_stars import GrantStars

from tiercast.actions import Halt, RateLimited, Unknown
from tiercast.runner import close, confirm, perform
from tiercast.testing import ActionContract, make_action, make_job


class Vendor(ThreadingHTTPServer):
    """The invented vendor: keeps every grant; `status` is what it answers, `silent` that it answers nothing."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.grants: list[dict[str, Any]] = []
        self.status = 201
        self.silent = False
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers for the vendor."""

    server: Vendor

    def do_POST(self) -> None:
        grant = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.status == 201:
            self.server.grants.append(grant)
        self.answer(self.server.status, {"message": "as the vendor says"})

    def do_GET(self) -> None:
        (reference,) = parse_qs(urlsplit(self.path).query)["reference"]
        found = [grant for grant in self.server.grants if grant["reference"] == reference]
        self.answer(200, {"grants": found})

    def answer(self, status: int, body: object) -> None:
        if self.server.silent:
            return
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    """A vendor for one test."""
    with Vendor() as running:
        yield running
        running.shutdown()


def options(vendor: Vendor) -> dict[str, Any]:
    """What a configuration would give."""
    return {"token": "t0p-s3cr3t", "customer": "cust_1", "stars": 3, "base_url": vendor.url}


class TestContract(ActionContract):
    """What every kind has to do."""

    action_class = GrantStars
    options: Mapping[str, Any] = {}

    @pytest.fixture(autouse=True)
    def _vendor(self, vendor: Vendor) -> None:
        self.options = options(vendor)


def test_a_grant_carries_the_jobs_key(vendor: Vendor) -> None:
    action = make_action(GrantStars, options(vendor))
    job = make_job(action, stars=5)

    assert perform(action, job) == "granted 5 stars"

    assert vendor.grants == [{"customer": "cust_1", "stars": 5, "reference": job.key}]
    close(action)


def test_after_an_attempt_without_an_answer_it_knows_whether_it_happened(vendor: Vendor) -> None:
    # Given a vendor that does what it is asked and then says nothing
    action = make_action(GrantStars, options(vendor))
    done, other = make_job(action), make_job(action)
    vendor.silent = True
    with pytest.raises(Unknown):
        perform(action, done)

    # When it is asked later, then it knows the one and not the other
    vendor.silent = False
    assert confirm(action, done) is True
    assert confirm(action, other) is False
    close(action)


@pytest.mark.parametrize(("status", "outcome"), [(401, Halt), (429, RateLimited), (503, Unknown)])
def test_what_the_vendors_answers_mean(vendor: Vendor, status: int, outcome: type[Exception]) -> None:
    action = make_action(GrantStars, options(vendor))
    vendor.status = status
    with pytest.raises(outcome):
        perform(action, make_job(action))
    close(action)
