"""Nothing personal is logged, whatever fails: a scan of all logs for seeded names, emails and source ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from marshmallow import fields

from tests.servers.mail import MailServer
from tests.servers.web import Answer, WebServer
from tests.stack import JOINED, Stack, wait_for
from tiercast.actions import Action, Halt, Job, Permanent, RetryLater, Skip, Unknown
from tiercast.samples import envelope, sample_data
from tiercast.testing.vendors.hubspot import FakeHubSpot

WHO: dict[str, Any] = {
    "email": "Seraphina.Quill@mailbox.example",
    "name": "Seraphina Quillfeather",
    "source_id": "crm-seed-90731",
}
SECRETS = {"HUBSPOT_TOKEN": "pat-s3cr3t", "TELL_SECRET": "seeded-signing-s3cr3t"}

#: What no log may hold, in any spelling.
SEEDS = ("seraphina", "quillfeather", "crm-seed-90731", "mailbox.example", *SECRETS.values(), "whsec-of-the-tests")

ERRORS: dict[str, type[BaseException]] = {
    "skip": Skip,
    "permanent": Permanent,
    "later": RetryLater,
    "halt": Halt,
    "unknown": Unknown,
    "value": ValueError,
    "exit": SystemExit,
}


class Leaky(Action):
    """Fail in the way that `how` says, with the customer in the message."""

    kind = "leaky"

    class Options(Action.Options):
        how = fields.String(required=True)

    def perform(self, job: Job) -> str | None:
        raise ERRORS[self.options.how](f"no luck with {job.event.customer}")


class LeakyBulk(Leaky):
    """Fail in a bulk call, and when closed."""

    kind = "leaky-bulk"
    last = ""

    def perform_many(self, jobs: list[Job]) -> Iterator[tuple[Job, str | Exception | None]]:
        self.last = str(jobs[0].event.customer)
        for job in jobs:
            yield job, self.perform(job)

    def close(self) -> None:
        if self.last:
            raise ValueError(self.last)


class LeakyConfirm(Leaky):
    """Be unable to find out, with the customer in the message. Not repeatable."""

    kind = "leaky-confirm"
    repeatable = False

    def confirm(self, job: Job) -> bool | None:
        raise ValueError(f"who is {job.event.customer}?")


CONFIG = """
[actions.mail]
kind = "email"
server = "{mail}"
tls = "none"
from = "hello@tea.example"
to = "{{{{ event.customer.email }}}}"
subject = "Welcome {{{{ event.customer.name }}}}"
text = "Hello {{{{ event.customer.name }}}}"
backoff = 0.1
attempts = 3

[actions.crm]
kind = "hubspot"
base_url = "{hubspot}"
token = "env:HUBSPOT_TOKEN"
id = "{{{{ event.customer.email }}}}"
properties.missing = "{{{{ event.customer.name }}}}"

[actions.tell]
kind = "webhook"
url = "{web}/to/{{{{ event.customer.email | urlencode }}}}?name={{{{ event.customer.name | urlencode }}}}"
secret = "env:TELL_SECRET"
allow_hosts = ["127.0.0.1"]
backoff = 0.1
attempts = 3

[actions.wrong-template]
kind = "webhook"
url = "{web}/n"
allow_hosts = ["127.0.0.1"]
body = "{{{{ event.customer.name + 1 }}}}"

{leaky}

[[rules]]
on = "customer.loyalty.tier.*"
when = "event.customer.name"
do = ["mail", "crm", "tell", "wrong-template", {names}]
"""

LEAKY = """
[actions.{kind}-{how}]
kind = "tests.integration.test_personal_data:{cls}"
how = "{how}"
attempts = 2
backoff = 0.1
"""


def config(mail: MailServer, hubspot: FakeHubSpot, web: WebServer) -> str:
    classes = {"one": "Leaky", "bulk": "LeakyBulk", "confirm": "LeakyConfirm"}
    pairs = [(kind, how) for kind in classes for how in ERRORS]
    leaky = "".join(LEAKY.format(kind=kind, how=how, cls=classes[kind]) for kind, how in pairs)
    names = ", ".join(f'"{kind}-{how}"' for kind, how in pairs)
    return CONFIG.format(mail=mail.url, hubspot=hubspot.url, web=web.url, leaky=leaky, names=names)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    env = SECRETS | {
        "TIERCAST_LOG_LEVEL": "debug",
        "TIERCAST_LEASE": "2",
        "TIERCAST_SPOOL_DIR": str(tmp_path / "spool"),
    }
    with MailServer() as mail, FakeHubSpot() as hubspot, WebServer() as web:
        mail.rcpt.extend([f"451 4.2.0 {WHO['email']} is busy", f"550 5.1.1 no mailbox {WHO['email']}"] * 20)
        echo = Answer(status=400, body={"message": f"{WHO['name']} <{WHO['email']}> of {WHO['source_id']} is refused"})
        web.queue.append(Answer(hang_up=True))
        web.default = lambda request: echo
        with Stack(tmp_path, config(mail, hubspot, web), env=env) as it:
            yield it


def refused(stack: Stack) -> None:
    """Post in every way that is refused or quarantined, with the customer in it."""
    body = envelope(JOINED, sample_data(**WHO))
    raw = json.dumps(body).encode()
    assert stack.post(body, signature="0" * 64).status_code == 401
    assert stack.post(body, signature=WHO["email"]).status_code == 401
    assert stack.post(body, source=quote(WHO["email"])).status_code == 404
    assert stack.post(raw + b" " * 1_100_000).status_code == 202, "quarantined without its body"
    url = f"http://127.0.0.1:{stack.port}"
    assert httpx.get(f"{url}/webhooks/voucherify?who={quote(WHO['email'])}", trust_env=False).status_code == 405
    headers = {"x-name": WHO["name"], "referer": f"https://x.example/{WHO['email']}"}
    assert httpx.post(f"{url}/{quote(WHO['name'])}", content=raw, headers=headers, trust_env=False).status_code == 404
    bad: list[Any] = [
        raw[:-5],
        raw.replace(b'"object": "customer"', b'"object": NaN'),
        json.dumps({**body, "data": {**body["data"], "customer": WHO["email"]}}).encode(),
        json.dumps({**body, "data": {**body["data"], "created_at": WHO["name"]}}).encode(),
        json.dumps({WHO["email"]: WHO["name"], "object": "event", "webhook_id": WHO["source_id"], "data": 1}).encode(),
        json.dumps(sample_data(**WHO)).encode(),
        WHO["email"].encode(),
        raw.replace(b'"name": "Seraphina', b'"Seraphina Quillfeather": 1, "Seraphina Quillfeather": 2, "name": "S'),
    ]
    for each in bad:
        assert stack.post(each).status_code == 202


def test_no_log_holds_what_is_personal_or_secret(stack: Stack) -> None:
    stack.start_web()
    stack.start_worker()
    refused(stack)
    # When events come whose actions fail in every way
    for number in range(3):
        stack.send(**WHO | {"customer_id": f"cust_{number}"})

    def is_over() -> bool:
        open_ = [job for job in stack.jobs() if job.state in ("owed", "parked") and not job.action.endswith("-halt")]
        return not open_ and len(stack.jobs()) >= 3 * 25

    wait_for(is_over, seconds=90)
    # and the ledger goes away for a while
    stack.server.kill()
    assert stack.post(envelope(JOINED, sample_data(**WHO))).status_code == 202
    stack.server.start()
    wait_for(lambda: stack.owed() == 0 or is_over(), seconds=60)
    stack.stop("worker")
    stack.stop("web")

    # Then the logs say a lot, and nothing of what was seeded
    for name in ("web", "worker"):
        log = stack.log(name)
        assert len(log) > 2000
        found = [line for line in log.splitlines() if any(seed in line.casefold() for seed in SEEDS)]
        assert found == [], name
    assert "job.dead" in stack.log("worker")
    assert "delivery.quarantined" in stack.log("worker")
    # and so does what is kept of the built-in kinds' errors
    ours = {"mail", "crm", "tell", "wrong-template"}
    texts = [f"{job.text} {job.history}" for job in stack.jobs() if job.action in ours]
    assert [text for text in texts if any(seed in text.casefold() for seed in SEEDS)] == []
    assert len(texts) >= 12
