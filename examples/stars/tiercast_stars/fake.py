"""The invented vendor: it adds stars each time it is asked, and lists grants by the reference that it was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from tiercast.testing.vendors.server import Answer, FakeVendor, Request, Route, Window

TOKEN = "t0p-s3cr3t"  # noqa: S105 - of a server on this machine


class FakeStars(FakeVendor):
    """Keeps every grant, twins too."""

    name: ClassVar[str] = "stars"
    published: ClassVar[Mapping[str, Sequence[Window]]] = {}

    def __init__(self, *, limits: Mapping[str, Sequence[Window]] | None = None) -> None:
        self.grants: list[dict[str, Any]] = []
        super().__init__(limits=limits)

    def routes(self) -> Iterable[Route]:
        """The two calls of its API."""
        yield Route("POST", "/grants", self._grant)
        yield Route("GET", "/grants", self._list)

    def options(self) -> dict[str, Any]:
        """How an action reaches it."""
        return {"base_url": self.url, "token": TOKEN}

    def effects(self) -> list[dict[str, Any]]:
        """The grants, in order."""
        return list(self.grants)

    def refuse(self, request: Request) -> Answer | None:
        """It takes its own token only."""
        return None if request.headers.get("authorization") == f"Bearer {TOKEN}" else Answer(status=401)

    def _grant(self, request: Request) -> Answer:
        self.grants.append(request.json)
        return Answer(status=201, body={"ok": True})

    def _list(self, request: Request) -> Answer:
        found = [grant for grant in self.grants if grant["reference"] == request.query["reference"]]
        return Answer(body={"grants": found})
