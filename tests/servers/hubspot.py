"""A stand-in for HubSpot's batch upsert: the documented shapes, over real HTTP."""

from __future__ import annotations

from typing import Any

from .web import Answer, Request, WebServer


class FakeHubSpot(WebServer):
    """Keeps contacts by their id. A property named `missing` is refused, per item; a bad id refuses the call."""

    def __init__(self) -> None:
        super().__init__(self._upsert)
        self.contacts: dict[str, dict[str, str]] = {}
        self.errors_without_trace = False

    def _upsert(self, request: Request) -> Answer:
        if request.headers.get("authorization") != "Bearer pat-s3cr3t":
            return Answer(
                status=401, body={"status": "error", "message": "bad token", "category": "INVALID_AUTHENTICATION"}
            )
        if request.method == "GET":
            return Answer(body={"portalId": 4711, "accountType": "STANDARD"})
        inputs = request.json["inputs"]
        ids = [entry["id"].lower() for entry in inputs]
        if len(inputs) > 100 or len(set(ids)) != len(ids) or "poison" in ids:
            return Answer(
                status=400, body={"status": "error", "category": "VALIDATION_ERROR", "message": "Invalid input JSON"}
            )
        results = [self._keep(entry) for entry in inputs if "missing" not in entry["properties"]]
        errors = [self._refusal(entry) for entry in inputs if "missing" in entry["properties"]]
        if not errors:
            return Answer(body={"status": "COMPLETE", "results": results})
        return Answer(
            status=207, body={"status": "COMPLETE", "results": results, "errors": errors, "numErrors": len(errors)}
        )

    def _keep(self, entry: dict[str, Any]) -> dict[str, Any]:
        new = entry["id"] not in self.contacts
        self.contacts.setdefault(entry["id"], {}).update(entry["properties"])
        trace = entry["objectWriteTraceId"]
        return {"id": f"10{len(self.contacts)}", "new": new, "properties": {}, "objectWriteTraceId": trace}

    def _refusal(self, entry: dict[str, Any]) -> dict[str, Any]:
        message = (
            'Property values were not valid: [{"isValid":false,"message":"Property \\"missing\\" does not exist",'
            '"error":"PROPERTY_DOESNT_EXIST","name":"missing","localizedErrorMessage":"' + entry["id"] + '"}]'
        )
        error: dict[str, Any] = {"status": "error", "category": "VALIDATION_ERROR", "message": message}
        if not self.errors_without_trace:
            error["context"] = {"objectWriteTraceId": [entry["objectWriteTraceId"]]}
        return error
