"""Flower tells something: names of tasks, and results that mean something, with no result backend."""

from __future__ import annotations

import ast
import contextlib
from pathlib import Path
from typing import Any

import httpx

from tests.stack import wait_for
from tests.working import Works
from tiercast.embedded import free_port
from worker.celery import app


def test_flower_shows_tasks_by_name_with_results(tmp_path: Path) -> None:
    port = free_port()
    with Works(tmp_path, {"welcome-email": ("Scripted", "")}, env={"FLOWER_BASIC_AUTH": "eve:tea,wörm"}) as works:
        works.start("flower", "tiercast.flower", "--address=127.0.0.1", f"--port={port}")

        def ask(auth: tuple[str, str] | None) -> httpx.Response | None:
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"http://127.0.0.1:{port}/api/tasks", auth=auth, trust_env=False)
            return None

        wait_for(lambda: ask(("eve", "tea,wörm")), seconds=60)
        works.begin()
        works.feed(*["done"] * 7)
        works.wait_until(done=7)

        def tasks(state: str) -> list[dict[str, Any]]:
            answer = ask(("eve", "tea,wörm"))
            found = [] if answer is None else list(answer.json().values())
            return [task for task in found if task["state"] == state]

        def results() -> list[dict[str, Any]]:
            found = [ast.literal_eval(task["result"]) for task in tasks("SUCCESS")]
            return found if sum(result.get("processed", 0) for result in found) == 7 else []

        found = wait_for(results, seconds=60)
        assert all("claimed" in result for result in found)
        assert {task["name"] for task in tasks("SUCCESS")} <= {"process:voucherify", "perform:welcome-email"}

        # A task that saw a job die has failed, and says so in one line without a word of the job
        works.feed("permanent")
        works.wait_until(done=7, dead=1)
        works.feed("done")
        (failed, *_) = wait_for(lambda: tasks("FAILURE"), seconds=30)
        assert failed["exception"].startswith("JobsDied(")
        assert "'dead': 1" in failed["exception"]
        assert failed["traceback"].count("\n") == 0
        assert "it can never be" not in str(failed)
        refused = ask(None)
        assert refused is not None
        assert refused.status_code == 401
        for path, auth, status in (
            ("metrics", None, 401),
            ("metrics", ("eve", "tea,wörm"), 200),
            ("workers", ("eve", "tea"), 401),
            ("healthcheck", None, 200),
        ):
            url = f"http://127.0.0.1:{port}/{path}"
            assert httpx.get(url, auth=auth, trust_env=False).status_code == status
    assert app.conf.result_backend is None
