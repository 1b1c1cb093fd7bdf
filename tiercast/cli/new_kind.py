"""The files of a new kind: its code, its vendor on this machine, tests and a page, green from the start."""

from __future__ import annotations

import re
from pathlib import Path

#: What a kind may be called, as in a configuration.
NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")

_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "tiercast-NAME"
version = "0.1.0"
description = "The kind NAME for Tiercast."
requires-python = ">=3.11"
dependencies = ["tiercast"]

# This line is how Tiercast finds the kind.
[project.entry-points."tiercast.actions"]
NAME = "PACKAGE:CLASS"

[tool.hatch.build.targets.wheel]
packages = ["PACKAGE"]
"""

_KIND = '''\
"""Kind `NAME`: tell a vendor which tier a customer is in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import fields

from tiercast.actions import Action, BaseUrl, Job, Properties, Secret
from tiercast.outbound import FIXED_PATH, Client, Meaning, ValueForm, Vendor, check_clear

#: What this vendor's codes and statuses mean, where HTTP does not say it.
_VENDOR = Vendor(name="CLASS", meanings={409: Meaning("later")})

#: How it wants values: null empties a property.
_FORM = ValueForm(cleared=None)


class CLASS(Action):
    """Set properties of a customer at CLASS.

    Safe to repeat: it sets what is set, and each call carries the job's key.
    """

    kind = "NAME"

    class Options(Action.Options):
        token = Secret(required=True, metadata={"description": "the vendor's API key"})
        customer = fields.String(required=True, metadata={"description": "which customer; a template"})
        properties = Properties(metadata={"description": "what to set; what renders empty is left out"})
        clear = fields.List(
            fields.String(), load_default=list, metadata={"description": "properties that are emptied by what is empty"}
        )
        base_url = BaseUrl(
            load_default="https://api.NAME.example", metadata={"description": "where the vendor's API is"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        check_clear(self.options.properties, self.options["clear"])
        self._headers = {"authorization": f"Bearer {self.options.token}"}
        # It opens nothing yet; calls share its connections.
        self._client = Client(timeout=timeout, vendor=_VENDOR)

    async def perform(self, job: Job) -> str | None:
        body = {
            "customer": job.options.customer,
            "properties": _FORM.shape(job.options.properties, self.options["clear"]),
        }
        await self._client.send(
            "PUT",
            f"{self.options.base_url}/customers",
            json=body,
            headers={**self._headers, "idempotency-key": job.key.encode("ascii", "replace").decode()},
            timeout=job.timeout,
            secrets=[self.options.token],
            personal=job.event,
            setting=FIXED_PATH,
        )
        return "set"

    async def verify(self) -> str | None:
        """Prove the credential by a call that changes nothing."""
        await self._client.send(
            "GET",
            f"{self.options.base_url}/me",
            headers=self._headers,
            secrets=[self.options.token],
            setting=FIXED_PATH,
        )
        return "CLASS takes the token"

    async def close(self) -> None:
        await self._client.close()
'''

_FAKE = '''\
"""The vendor of the tests: refuse here what the real one refuses, and keep what it keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from tiercast.testing.vendors.server import Answer, FakeVendor, Request, Route, Window

TOKEN = "s3cr3t-of-the-tests"  # noqa: S105 - of a server on this machine


class FakeCLASS(FakeVendor):
    """Keeps the properties of each customer."""

    name: ClassVar[str] = "NAME"
    published: ClassVar[Mapping[str, Sequence[Window]]] = {"api": (Window(100, 10.0),)}

    def __init__(self, *, limits: Mapping[str, Sequence[Window]] | None = None) -> None:
        self.customers: dict[str, dict[str, Any]] = {}
        super().__init__(limits=limits)

    def routes(self) -> Iterable[Route]:
        yield Route("PUT", "/customers", self._put)
        yield Route("GET", "/me", self._me)

    def options(self) -> dict[str, Any]:
        return {"base_url": self.url, "token": TOKEN}

    def effects(self) -> dict[str, Any]:
        return {name: dict(found) for name, found in self.customers.items()}

    def refuse(self, request: Request) -> Answer | None:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Answer(status=401, body={"message": "who are you?"})
        return None

    def _put(self, request: Request) -> Answer:
        body = request.json
        if set(body) != {"customer", "properties"} or not body["customer"]:
            return Answer(status=400, body={"code": "invalid", "message": "name a customer and its properties"})
        self.customers.setdefault(body["customer"], {}).update(body["properties"])
        return Answer(body={"ok": True})

    def _me(self, request: Request) -> Answer:
        return Answer(body={"name": "an account of the tests"})
'''

_TESTS = '''\
"""The kit, and what is special about this kind. Run with: pytest --record-kinds"""

from __future__ import annotations

from pathlib import Path

from PACKAGE import CLASS
from PACKAGE.fake import FakeCLASS

from tiercast.actions import RetryLater
from tiercast.testing import KindKit
from tiercast.testing.vendors.server import Request


class TestCLASS(KindKit):
    action_class = CLASS
    server = FakeCLASS
    options = {"customer": "{{ event.customer.id }}", "properties": {"tier": "{{ event.tier.name }}"}}
    differs = {409: RetryLater}
    not_applicable = {
        **dict.fromkeys(("K8", "K9", "K10", "K11", "K12"), "it has no bulk call"),
        "K17": "repeating it is harmless, so nothing is confirmed",
    }
    page = Path(__file__).parents[1] / "docs" / "NAME.md"
    a_property = "note"

    def key_in(self, request: Request) -> str | None:
        return request.headers.get("idempotency-key")


def test_a_tier_arrives_at_the_vendor() -> None:
    with FakeCLASS() as vendor:
        kit = TestCLASS()
        kit.vendor = vendor
        with kit.kit() as made:
            job = made.job(1)
            made.outcome(job)
        assert vendor.effects() == {"cust_1": {"tier": job.options.properties["tier"]}}
'''

_PAGE = """\
# Kind `NAME`

Sets properties of a customer at CLASS.

## What it needs

An API key that may write customers.

```toml
[actions.NAME-tier]
kind = "NAME"
token = "env:TOKEN_VARIABLE"
customer = "{{ event.customer.id }}"
properties.tier = "{{ event.tier.name }}"
order = "latest"

[[rules]]
on = "customer.loyalty.tier.*"
do = ["NAME-tier"]
```

| option | default | meaning |
| --- | --- | --- |
| `token` | required | A reference to the vendor's API key. |
| `customer` | required | Which customer: a template. |
| `properties` | none | What to set; what renders empty is left out. |
| `clear` | none | Properties that are emptied where they render empty. |
| `base_url` | `https://api.NAME.example` | Where the vendor's API is. |

## What happens on a failure

| the vendor says | the job |
| --- | --- |
| 401, 403 | waits, the lane is held: check `token` |
| 3xx, 402, 404, 405, 406, 410, 415 | waits, the lane is held: check `base_url` |
| 429 | waits, as all of its limit do |
| 409, 5xx, no answer | tried again; it sets the same again |
| any other 4xx | `dead`, with the reason |
"""

_README = """\
# tiercast-NAME

The kind `NAME` for Tiercast. [What it does](docs/NAME.md).

```sh
pip install -e .
pytest --record-kinds
tiercast kinds show NAME
```

1. `PACKAGE/__init__.py` is the kind: change the call to your vendor's.
2. `PACKAGE/fake.py` is the vendor of the tests: refuse what yours refuses.
3. `tests/test_kind.py` runs the kit. A level is written beside the kind's code, and ships with it.
"""


def write_kind(name: str, folder: Path) -> list[Path]:
    """Write the package of a kind; returns its files.

    Raises:
        FileExistsError: the folder is there already.
    """
    package = f"tiercast_{name.replace('-', '_')}"
    words = {
        "TOKEN_VARIABLE": f"{name.upper().replace('-', '_')}_TOKEN",
        "PACKAGE": package,
        "CLASS": "".join(part.capitalize() for part in name.split("-")),
        "NAME": name,
    }
    files = {
        "pyproject.toml": _PROJECT,
        "README.md": _README,
        f"{package}/__init__.py": _KIND,
        f"{package}/fake.py": _FAKE,
        f"{package}/py.typed": "",
        "tests/test_kind.py": _TESTS,
        f"docs/{name}.md": _PAGE,
    }
    folder.mkdir(parents=True)
    written = []
    for place, text in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_filled(text, words), encoding="utf-8")
        written.append(path)
    return written


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub("|".join(words), lambda found: words[found[0]], text)
