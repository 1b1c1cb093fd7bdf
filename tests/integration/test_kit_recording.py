"""A level is earned by a run: the kit fails kinds that do wrong, and writes what a kind has proved beside its code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tiercast.config.kinds import find_kinds, load_kind
from tiercast.conformance import CHECKS, Record, code_digest, describe, options_of, read_record

ROOT = Path(__file__).parents[2]

KIND = '''
"""A kind, and the vendor that it calls."""
import aiohttp
from typing import Any
from marshmallow import fields
from tiercast.actions import Action, BaseUrl, Secret
from tiercast.outbound import Client, FIXED_PATH

class Badges(Action):
    """Give a customer a badge at an invented vendor."""

    kind = "badges"

    class Options(Action.Options):
        token = Secret(required=True, metadata={"description": "the vendor's API key"})
        who = fields.String(required=True, metadata={"description": "who gets it; a template"})
        base_url = BaseUrl(load_default="https://badges.example", metadata={"description": "of the vendor"})

    def __init__(self, name, options, *, timeout=10.0):
        super().__init__(name, options, timeout=timeout)
        self._client = Client(timeout=timeout)

    async def perform(self, job):
        await self._client.send(
            "PUT", self.options.base_url + "/badges", json={"who": job.options.who, "key": job.key},
            timeout=job.timeout, secrets=[self.options.token],
            headers={"authorization": f"Bearer {self.options.token}"},
            personal=job.event, setting=FIXED_PATH,
        )
        return "given"

    async def verify(self):
        await self._client.send(
            "GET", self.options.base_url + "/me", headers={"authorization": f"Bearer {self.options.token}"},
            secrets=[self.options.token], setting=FIXED_PATH,
        )
        return "the vendor takes the token"

    async def close(self):
        await self._client.close()
'''

#: The same, as somebody would write it who thinks of the good case only.
CARELESS = (
    KIND.replace('metadata={"description": "the vendor\'s API key"}', "").split("    async def perform")[0]
    + """
    async def perform(self, job):
        async with aiohttp.ClientSession() as session:
            body = {"who": job.options.who, "key": str(id(job))}
            async with session.request(
                "PUT", self.options.base_url + "/badges", json=body,
                headers={"authorization": f"Bearer {self.options.token}"}
            ) as answer:
                job.event.data["seen"] = True
                return await answer.text()
"""
)

TESTS = """
import badges
from pathlib import Path
from tiercast.testing import KindKit
from tiercast.testing.vendors.server import Answer, FakeVendor, Route

class FakeBadges(FakeVendor):
    def __init__(self):
        self.given = {}
        super().__init__()
    def routes(self):
        yield Route("PUT", "/badges", self.give)
        yield Route("GET", "/me", lambda request: Answer(body={}))
    def options(self):
        return {"base_url": self.url, "token": "s3cr3t-of-badges"}
    def effects(self):
        return dict(self.given)
    def refuse(self, request):
        good = request.headers.get("authorization") == "Bearer s3cr3t-of-badges"
        return None if good else Answer(status=401, body={})
    def give(self, request):
        self.given[request.json["key"]] = request.json["who"]
        return Answer(body={})

class TestBadges(KindKit):
    action_class = badges.Badges
    server = FakeBadges
    options = {"who": "{{ event.customer.email }}"}
    page = Path(__file__).with_name("badges.md")
    not_applicable = dict.fromkeys(("K8", "K9", "K10", "K11", "K12"), "it has no bulk call") | {"K17": "repeatable"}
    def key_in(self, request):
        return request.json["key"]
"""

PAGE = """# Kind `badges`

```toml
[actions.badge]
kind = "badges"
token = "env:BADGES_TOKEN"
who = "{{ event.customer.id }}"

[[rules]]
on = "customer.loyalty.tier.joined"
do = ["badge"]
```
"""


def run_kit(folder: Path, code: str, *arguments: str) -> str:
    """Run the kit on a kind in a process of its own; what it says at the end."""
    (folder / "badges.py").write_text(code, encoding="utf-8")
    (folder / "test_badges.py").write_text(TESTS, encoding="utf-8")
    (folder / "badges.md").write_text(PAGE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tiercast.testing.recording", *arguments, "test_badges.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{ROOT}:{folder}", "PATH": "/usr/bin:/bin"},
    )
    return done.stdout + done.stderr


def test_a_kind_that_does_right_earns_silver_and_its_record_says_so(tmp_path: Path) -> None:
    said = run_kit(tmp_path, KIND, "--record-kinds")
    assert "kind badges: silver, recorded in" in said, said[-3000:]
    record = json.loads((tmp_path / "conformance" / "badges.json").read_text(encoding="utf-8"))
    assert record["level"] == "silver"
    assert record["left_out"]["K8"] == "it has no bulk call"
    assert record["options"] == {"token": True, "who": True, "base_url": False}


def test_a_careless_kind_earns_nothing_and_is_told_why(tmp_path: Path) -> None:
    said = run_kit(tmp_path, CARELESS, "--record-kinds")
    line = next(line for line in said.splitlines() if line.startswith("kind badges: none"))
    failed = set(line.partition("failed ")[2].partition(", recorded")[0].split(", "))
    assert failed >= {"K1", "K3", "K4", "K5", "K6", "K7", "K13", "K15", "K18", "K20"}, line


def test_a_run_of_some_checks_records_nothing(tmp_path: Path) -> None:
    said = run_kit(tmp_path, KIND, "--record-kinds", "-k", "k1_")
    assert "kind badges: none, not run K2" in said
    assert not (tmp_path / "conformance").exists()


def test_an_option_that_is_gone_or_required_now_fails_the_kit(tmp_path: Path) -> None:
    run_kit(tmp_path, KIND, "--record-kinds")
    said = run_kit(tmp_path, KIND.replace("who = fields", "whom = fields"), "-k", "k19_its_options")
    assert "options that configurations may hold are gone: who" in said


def test_levels_follow_from_the_checks_alone() -> None:
    bronze = tuple(f"K{number}" for number in (1, 2, 3, 4, 5, 6, 7, 15, 16))
    assert Record(kind="x", code="", passed=tuple(CHECKS)).level == "silver"
    assert Record(kind="x", code="", passed=bronze).level == "bronze"
    assert Record(kind="x", code="", passed=bronze[1:]).level == "none"
    assert Record(kind="x", code="", passed=bronze[1:], left_out={"K1": "why"}).level == "bronze"
    assert Record(kind="x", code="", passed=tuple(CHECKS), failed=("K5",)).level == "none"


@pytest.mark.parametrize("kind", sorted(find_kinds()))
def test_the_records_of_built_in_kinds_are_of_this_code(kind: str) -> None:
    cls = load_kind(kind)
    if not cls.__module__.startswith("worker.") or (record := read_record(cls)) is None:
        pytest.skip("no record of a built-in kind")
    assert record.options == options_of(cls), "the options have changed: run `make kinds`"
    assert record.code == code_digest(cls), "the code has changed since the kit was run: run `make kinds`"
    assert describe(cls)["proved"]
