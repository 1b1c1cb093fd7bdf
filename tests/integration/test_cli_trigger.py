"""`tiercast trigger` and `tiercast check` against a real receiver and a real ledger."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from structlog.testing import capture_logs
from werkzeug.serving import make_server

from receiver.app import create_app
from tiercast.cli import main, output
from tiercast.config.model import Source
from tiercast.embedded import EmbeddedServer, free_port
from tiercast.event import is_envelope
from tiercast.ledger import Ledger, new_token, open_ledger, prepare
from tiercast.ledger.model import Claim, DeliveryState, Plan, PlannedJob
from tiercast.ringer import BellRinger
from tiercast.settings import load_settings

Run = Callable[..., Result]

CONFIG = """
[sources.voucherify]
secrets = ["env:SHOP_SECRET"]
event = "customer.loyalty.tier.upgraded"

[actions.note]
kind = "log"
message = "{{ event.type }}"

[actions.crm]
kind = "webhook"
url = "https://crm.example.com/tiers"

[[rules]]
on = "customer.loyalty.tier.*"
do = ["note"]

[[rules]]
on = "customer.loyalty.tier.joined"
do = ["crm"]
"""


@pytest.fixture
def environ(server: EmbeddedServer, client: redis.Redis, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "tiercast.toml").write_text(CONFIG)
    return {
        "TIERCAST_REDIS_URL": server.url,
        "TIERCAST_PREFIX": "t",
        "TIERCAST_DATA": str(tmp_path / "none"),
        "TIERCAST_CONFIG": str(tmp_path / "tiercast.toml"),
        "TIERCAST_WEBHOOK_SECRETS": "",
        "SHOP_SECRET": "shop-secret-of-tests",
    }


@pytest.fixture
def opened(environ: dict[str, str]) -> Ledger:
    settings = load_settings(environ)
    ledger = open_ledger(settings, role="operator")
    prepare(ledger, settings)
    return ledger


@pytest.fixture
def door(environ: dict[str, str], opened: Ledger) -> Iterator[str]:
    """A receiver that stores in the ledger; gives its base address."""
    sources = {"voucherify": Source(name="voucherify", secrets=("shop-secret-of-tests",))}
    app = create_app(load_settings(environ), sources, opened, BellRinger(lambda lane: None))
    listening = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=lambda: listening.serve_forever(poll_interval=0.02))
    thread.start()
    # The receiver is in this process, and its log would mix with what the commands print.
    with capture_logs():
        yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def run(environ: dict[str, str], door: str) -> Run:
    def call(*args: str, status: int = 0, env: dict[str, str] | None = None, **kwargs: Any) -> Result:
        runner = CliRunner(env=environ | {"TIERCAST_URL": door} | (env or {}))
        result = runner.invoke(main, args, **kwargs)
        assert result.exit_code == status, result.output
        assert "shop-secret-of-tests" not in result.output
        return result

    return call


def stored(ledger: Ledger, n: int = 100) -> list[dict[str, Any]]:
    """The bodies that arrived, oldest first."""
    exchange = ledger.exchange_deliveries("voucherify", claim=Claim(token=new_token(), n=n))
    return [json.loads(held.body) for held in exchange.claimed]


class TestTrigger:
    def test_a_sample_goes_in_by_the_front_door(self, run: Run, opened: Ledger) -> None:
        result = run("trigger", "--yes", "--email", "you@shop.example", "--customer", "cust_me", "--tier", "Jade leaf")

        assert result.stdout.startswith("202 ")
        assert "tiercast jobs list" in result.stdout
        (body,) = stored(opened)
        assert is_envelope(body)
        assert body["event"]["type"] == "customer.loyalty.tier.joined"
        customer = body["data"]["customer"]
        assert (customer["id"], customer["email"]) == ("cust_me", "you@shop.example")
        assert body["data"]["loyalty_tier"]["name"] == "Jade leaf"

    def test_many_are_all_new_and_of_distinct_customers(self, run: Run, opened: Ledger) -> None:
        result = run("trigger", "--count", "60", "--yes")

        assert "60 accepted in" in result.stdout
        bodies = stored(opened)
        assert len({body["event"]["id"] for body in bodies}) == 60
        for name in ("id", "email", "source_id"):
            assert len({body["data"]["customer"][name] for body in bodies}) == 60
        assert len({body["data"]["created_at"] for body in bodies}) == 60

    def test_many_of_one_customer(self, run: Run, opened: Ledger) -> None:
        run("trigger", "left", "--count", "20", "--customer", "cust_me")
        bodies = stored(opened)
        assert {body["data"]["customer"]["id"] for body in bodies} == {"cust_me"}
        assert {body["event"]["type"] for body in bodies} == {"customer.loyalty.tier.left"}
        assert len({body["data"]["created_at"] for body in bodies}) == 20

    def test_an_empty_email_is_null(self, run: Run, opened: Ledger) -> None:
        run("trigger", "--yes", "--email", "")
        (body,) = stored(opened)
        assert body["data"]["customer"]["email"] is None

    def test_raw_sends_what_the_source_says_that_it_means(self, run: Run, opened: Ledger) -> None:
        run("trigger", "--raw", "--yes")
        (body,) = stored(opened)
        assert not is_envelope(body)
        assert "loyalty_tier_to" in body

    def test_raw_of_another_type_says_how_it_will_be_read(self, run: Run) -> None:
        result = run("trigger", "joined", "--raw", "--yes")
        assert "reads every Raw payload as customer.loyalty.tier.upgraded" in result.stderr

    def test_json_is_one_document(self, run: Run) -> None:
        document = json.loads(run("trigger", "--yes", "--count", "2", "--json").stdout)
        assert (document["accepted"], document["refused"]) == (2, {})
        assert all(answer["delivery"] for answer in document["answers"])

    def test_what_reaches_the_outside_world_is_named_and_needs_a_yes(self, run: Run, opened: Ledger) -> None:
        result = run("trigger", status=2)
        assert "crm (webhook)" in result.stderr
        assert "note" not in result.stderr
        assert "--yes" in result.stderr
        assert stored(opened) == []

    @pytest.mark.parametrize(("answer", "status", "arrived"), [("y", 0, 1), ("n", 1, 0), ("", 1, 0)])
    def test_a_person_is_asked(
        self, run: Run, opened: Ledger, monkeypatch: pytest.MonkeyPatch, answer: str, status: int, arrived: int
    ) -> None:
        monkeypatch.setattr(output, "can_ask", lambda: True)
        result = run("trigger", input=f"{answer}\n", status=status)
        assert "crm (webhook). Go on?" in result.stderr
        assert len(stored(opened)) == arrived

    def test_what_stays_here_needs_none(self, run: Run, opened: Ledger) -> None:
        run("trigger", "prolonged")
        assert len(stored(opened)) == 1

    def test_an_unreadable_configuration_causes_who_knows_what(self, run: Run, tmp_path: Path) -> None:
        config = (tmp_path / "tiercast.toml").read_text().replace("{{ event.type }}", "{{ evnt.type }}")
        (tmp_path / "tiercast.toml").write_text(config)
        assert "not known" in run("trigger", status=2).stderr
        run("trigger", "--yes")

    def test_a_wrong_secret_is_told(self, run: Run, opened: Ledger) -> None:
        result = run("trigger", "--yes", status=1, env={"SHOP_SECRET": "another-secret-of-tests"})
        assert "1 not accepted: 401" in result.stderr
        assert "TIERCAST_WEBHOOK_SECRETS" in result.stderr
        assert stored(opened) == []

    def test_nothing_that_listens(self, run: Run) -> None:
        url = f"http://127.0.0.1:{free_port()}/webhooks/voucherify"
        result = run("trigger", "--yes", "--count", "40", "--url", url, status=1)
        assert "tiercast up" in result.stderr
        assert "connection refused" in result.stderr

    def test_an_address_that_is_none(self, run: Run) -> None:
        assert "--url" in run("trigger", "--yes", "--url", "localhost:8080", status=2).stderr

    def test_no_such_source(self, run: Run) -> None:
        assert "no source 'shop'" in run("trigger", "--source", "shop", "--yes", status=1).stderr

    @pytest.mark.parametrize("args", [["tier joined"], ["Joined"], ["--count", "0"]])
    def test_wrong_usage(self, run: Run, args: list[str]) -> None:
        run("trigger", "--yes", *args, status=2)


class TestCheck:
    def findings(self, result: Result) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for each in json.loads(result.stdout)["findings"]:
            found.setdefault(each["level"], []).append(f"{each['about']}: {each['text']}")
        return found

    def test_all_is_there_but_workers(self, run: Run) -> None:
        found = self.findings(run("check", "--json"))
        assert "error" not in found
        assert any(text.startswith("ledger: answers") for text in found["ok"])
        assert any(text.startswith("broker: answers") for text in found["ok"])
        assert any("append-only" in text for text in found["warning"])
        assert any("no worker answers" in text for text in found["warning"])

    def test_work_that_nobody_will_do(self, run: Run, opened: Ledger) -> None:
        owe(opened, "gone", "note")
        run("lanes", "pause", "note", "--reason", "wrong text")

        found = self.findings(run("check", "--json", status=1))

        assert any(
            text.startswith("jobs/gone: 1 owed, but the configuration has no such action") for text in found["warning"]
        )
        assert any(text.startswith("jobs/note: paused: wrong text (") for text in found["trouble"])

    def test_a_ledger_that_evicts(self, run: Run, client: redis.Redis) -> None:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            result = run("check", status=1)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
        assert "maxmemory-policy noeviction" in result.stdout

    def test_nothing_that_answers(self, run: Run) -> None:
        url = f"redis://:pass-word@127.0.0.1:{free_port()}/0"
        result = run("check", status=1, env={"TIERCAST_REDIS_URL": url})
        assert "ledger: it does not answer" in result.stdout
        assert "broker: it does not answer" in result.stdout
        assert "pass-word" not in result.output


class TestBells:
    def test_what_became_due_is_rung_for(self, run: Run, opened: Ledger, client: redis.Redis) -> None:
        owe(opened, "note")
        assert client.llen("tiercast") == 0
        run("lanes", "resume", "note")
        assert client.llen("tiercast") == 1


class TestLanesWithAConfiguration:
    def test_those_that_never_held_work_are_listed_too(self, run: Run) -> None:
        lanes = json.loads(run("lanes", "list", "--json").stdout)["lanes"]
        assert [(lane["name"], lane["owed"]) for lane in lanes] == [
            ("deliveries/voucherify", 0),
            ("jobs/crm", 0),
            ("jobs/note", 0),
        ]

    def test_one_of_an_action_that_left_says_so(self, run: Run, opened: Ledger) -> None:
        owe(opened, "gone")
        lanes = {lane["name"]: lane for lane in json.loads(run("lanes", "list", "--json").stdout)["lanes"]}
        assert lanes["jobs/gone"]["reason"] == "no such action in the configuration"
        assert lanes["jobs/note"]["reason"] is None

    def test_one_that_never_held_work_can_be_paused(self, run: Run) -> None:
        assert "Paused jobs/crm" in run("lanes", "pause", "crm").stdout


def owe(ledger: Ledger, *actions: str) -> None:
    """One event leads to these actions."""
    ledger.record([("voucherify", "01900000-0000-7000-8000-000000000001", b"{}")])
    token = new_token()
    (held,) = ledger.exchange_deliveries("voucherify", claim=Claim(token=token, n=1)).claimed
    plan = Plan(
        delivery=held.id,
        token=token,
        state=DeliveryState.PROCESSED,
        event_id="evcus_1",
        type="customer.loyalty.tier.joined",
        at="2026-01-01T00:00:00.000Z",
        created_us=1,
        form="envelope",
        jobs=tuple(PlannedJob(action=action) for action in actions),
    )
    ledger.exchange_deliveries("voucherify", [plan])
