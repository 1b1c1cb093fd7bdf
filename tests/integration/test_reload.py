"""`tiercast reload` with real workers: what was changed takes effect, and no job is lost or done twice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.stack import wait_for
from tests.working import Works, is_gone, once_each


def pool_of(works: Works, name: str = "worker") -> set[int]:
    """The ids of the processes of a worker's pool."""
    return {process.pid for process in psutil.Process(works.processes[name].pid).children()}


def change(works: Works, *pairs: tuple[str, str]) -> None:
    """Change the configuration file."""
    path = works.folder / "tiercast.toml"
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def in_background(do: Callable[[], Any]) -> Callable[[], Any]:
    """Call something in a thread; calling what this returns waits for its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(do()))
    thread.start()

    def result() -> Any:
        thread.join(120)
        assert results, "it did not end"
        return results[0]

    return result


def test_a_changed_template_and_a_new_action_take_effect_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    # Given two workers with jobs in flight, quick ones and some that take half a second
    actions = {"one": ("Scripted", ""), "long": ("Scripted", 'behaviour = "slow"; seconds = 0.5'), "bulk": ("Bulk", "")}
    with Works(tmp_path, actions) as works:
        works.begin("worker")
        works.begin("second")
        before = pool_of(works) | pool_of(works, "second")
        works.feed(*["slow"] * 60)
        wait_for(lambda: len(works.effects("one")) > 3 and works.effects("long", "begin"))

        # When an action writes elsewhere, and another one is added
        new = f'[actions.new]\nkind = "tests.kinds:Scripted"\neffects = "{tmp_path}/new"\nbehaviour = "done"\n[[rules]]'
        change(works, (f'"{tmp_path}/one"', f'"{tmp_path}/changed"'), ("[[rules]]", new), ('"bulk"]', '"bulk", "new"]'))
        done = in_background(lambda: works.cli("reload"))
        works.feed(*["done"] * 40)
        said = done()

        # Then both say so, and no process is the one that it was
        assert sorted(said.splitlines()) == [
            "second@test  reloaded: 2 processes replaced",
            "worker@test  reloaded: 2 processes replaced",
        ]
        (entry,) = json.loads(works.cli("audit", "--json"))["audit"]
        assert (entry["verb"], entry["subject"], entry["count"], entry["result"]) == (
            "reload", "second@test, worker@test", 2, "reloaded",
        )  # fmt: skip
        assert not before & (pool_of(works) | pool_of(works, "second"))

        # and what comes now is done by the new configuration
        events = works.feed(*["done"] * 5)
        wait_for(lambda: works.owed() == 0, seconds=60)
        assert works.count("new")["done"] >= 5
        assert len([mark for mark in works.effects("new") if any(event in mark.key for event in events)]) == 5
        assert not [mark for mark in works.effects("one") if any(event in mark.key for event in events)]

        # and each job was done once
        ones = works.effects("one") + works.effects("changed")
        for found in (ones, works.effects("long"), works.effects("bulk")):
            assert once_each(found)
            assert len(found) == 105
        assert works.effects("changed")
        assert len(works.effects("long", "begin")) == 105
        assert works.held() == 0


def test_a_job_that_takes_longer_than_a_stop_would_give_it_ends_first(tmp_path: Path) -> None:
    """A worker that is stopped has eight seconds; a reload is in no hurry."""
    with Works(tmp_path, {"long": ("Scripted", 'behaviour = "slow"; seconds = 11; timeout = 20')}) as works:
        works.begin("worker", "-c", "1")
        works.feed("slow")
        wait_for(lambda: works.effects("long", "begin"))
        (old,) = pool_of(works)

        works.cli("reload")

        assert len(works.effects("long")) == 1
        assert not psutil.pid_exists(old) or is_gone(psutil.Process(old))
        works.wait_until(done=1)
        assert len(works.effects("long", "begin")) == 1


def test_a_secret_in_a_file_is_read_anew(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the first secret of the source")
    with Works(tmp_path, {"one": ("Scripted", 'behaviour = "done"')}) as works:
        change(works, ('"env:TIERCAST_WEBHOOK_SECRETS"', '"file:secret"'))
        works.begin()
        secret.write_text("short")
        said = works.cli("reload", expect=1)
        assert "refused, nothing has changed" in said
        assert "secret" in said
        secret.write_text("the second secret of the source")
        assert "reloaded: 2 processes replaced" in works.cli("reload")


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (("[[rules]]", "[[rules"), "no valid TOML"),
        (('"tests.kinds:Scripted"', '"tests.kinds:Skripted"'), "actions.one.kind"),
        (('do = ["one"]', 'do = ["none"]'), "none"),
    ],
    ids=["no toml", "no such kind", "no such action"],
)
def test_a_faulty_file_is_refused_and_changes_nothing(tmp_path: Path, fault: tuple[str, str], named: str) -> None:
    with Works(tmp_path, {"one": ("Scripted", 'behaviour = "done"')}) as works:
        works.begin()
        before = pool_of(works)
        good = (tmp_path / "tiercast.toml").read_text()
        change(works, fault)

        said = json.loads(works.cli("reload", "--json", expect=1).split("\n1 of 1")[0])

        (worker,) = said["workers"]
        assert (worker["worker"], worker["ok"]) == ("worker@test", False)
        assert named in worker["text"]
        assert pool_of(works) == before
        # A process that dies after that is replaced by one that works, by the configuration before.
        psutil.Process(min(before)).kill()
        wait_for(lambda: len(pool_of(works) - before) == 1)
        works.feed(*["done"] * 10)
        works.wait_until(done=10)
        # and the next try, with a file that is right, is none the worse for it
        (tmp_path / "tiercast.toml").write_text(good)
        assert "reloaded: 2 processes replaced" in works.cli("reload")


def test_the_timer_takes_new_lanes_though_no_bell_comes(tmp_path: Path) -> None:
    with Works(tmp_path, {"one": ("Scripted", 'behaviour = "done"')}) as works:
        works.begin()
        new = (
            '[sources.other]\nsecrets = ["env:TIERCAST_WEBHOOK_SECRETS"]\n'
            f'[actions.new]\nkind = "tests.kinds:Scripted"\neffects = "{tmp_path}/new"\nbehaviour = "done"\n[[rules]]'
        )
        change(works, ("[[rules]]", new), ('["one"]', '["one", "new"]'))
        works.cli("reload")
        works.feed("done", ring=False)
        works.wait_until(done=2)


def test_a_process_that_is_killed_during_a_reload_is_no_obstacle(tmp_path: Path) -> None:
    with Works(tmp_path, {"one": ("Scripted", 'behaviour = "slow"; seconds = 1')}) as works:
        works.begin("worker", "-c", "3")
        before = pool_of(works)
        works.feed(*["slow"] * 60)
        wait_for(lambda: works.effects("one", "begin"))
        done = in_background(lambda: works.cli("reload"))
        wait_for(lambda: "reload.began" in works.log("worker"))
        for pid in before:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()
        assert "reloaded: 3 processes replaced" in done()
        assert not before & pool_of(works)
        works.wait_until(done=60, seconds=90)


def test_of_two_reloads_at_once_one_is_refused(tmp_path: Path) -> None:
    with Works(tmp_path, {"long": ("Scripted", 'behaviour = "slow"; seconds = 6; timeout = 10')}) as works:
        works.begin()
        works.feed("slow")
        wait_for(lambda: works.effects("long", "begin"))
        command = [sys.executable, "-m", "tiercast.cli", "reload"]
        both = [subprocess.Popen(command, env=works.env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = sorted((process.communicate(timeout=100)[0], process.returncode) for process in both)
        assert said == [
            ("worker@test  refused, nothing has changed: a reload is under way; try again when it has ended\n", 1),
            ("worker@test  reloaded: 2 processes replaced\n", 0),
        ]


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_pool_without_processes_says_that_it_cannot(tmp_path: Path, pool: str) -> None:
    with Works(tmp_path, {"one": ("Scripted", 'behaviour = "done"')}) as works:
        works.begin("worker", "-P", pool, "-c", "1")
        said = works.cli("reload", expect=1)
        assert said.startswith("worker@test  refused, nothing has changed: its pool (")
        assert "restart this worker" in said


def test_without_a_worker_or_a_broker_it_says_so(tmp_path: Path) -> None:
    with Works(tmp_path, {"one": ("Scripted", 'behaviour = "done"')}) as works:
        works.cli("reload", expect=1)
        works.change_env(TIERCAST_BROKER_URL="redis://127.0.0.1:1/0")
        works.cli("reload", expect=1)


def test_a_worker_that_is_stopped_during_a_reload_stops(tmp_path: Path) -> None:
    with Works(tmp_path, {"long": ("Scripted", 'behaviour = "slow"; seconds = 3; timeout = 10')}) as works:
        works.begin()
        works.feed(*["slow"] * 4)
        wait_for(lambda: works.effects("long", "begin"))
        reload = in_background(lambda: works.cli("reload", "--timeout", "20", expect=1))
        wait_for(lambda: "reload.began" in works.log("worker"))
        family = works.family()
        assert works.stop("worker") == 0
        wait_for(lambda: all(is_gone(process) for process in family))
        assert "worker@test" in reload()
        works.begin("next")
        works.wait_until(done=4)
        assert once_each(works.effects("long"))
