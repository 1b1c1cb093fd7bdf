"""The files that run Tiercast elsewhere: Procfile, Dockerfile, docker-compose.yml."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tiercast.embedded import EmbeddedServer, free_port
from tiercast.errors import LedgerError
from tiercast.ledger import open_ledger, prepare
from tiercast.ledger.client import connect
from tiercast.ledger.reading import Reader
from tiercast.samples import envelope, sample_data
from tiercast.settings import VARIABLES, load_settings
from tiercast.signature import sign

ROOT = Path(__file__).parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

SECRET = "a-secret-of-the-test"

#: Seconds that a process may take to do what is waited for, on a busy machine.
PATIENCE = 60.0


def procfile() -> dict[str, str]:
    """The lines of the Procfile by name."""
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    return {name: command.strip() for name, _, command in (line.partition(":") for line in lines)}


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for a condition that a process brings about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the process ended"
        assert time.monotonic() < deadline, "the process did not do it in time"
        time.sleep(0.05)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the Procfile's lines need: a ledger, a configuration, a secret, ports."""
    config = tmp_path / "tiercast.toml"
    config.write_text(
        '[actions.announce]\nkind = "log"\nmessage = "{{ event.type }}"\n\n'
        '[[rules]]\non = "customer.loyalty.tier.*"\ndo = ["announce"]\n'
    )
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TIERCAST_", "FLOWER_"))}
    with EmbeddedServer(tmp_path / "ledger") as server:
        yield ours | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TIERCAST_REDIS_URL": server.url,
            "TIERCAST_CONFIG": str(config),
            "TIERCAST_WEBHOOK_SECRETS": SECRET,
            "PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
            "FLOWER_BASIC_AUTH": "name:password",
        }


@contextmanager
def running(name: str, environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A line of the Procfile, as a shell runs it; all that it started is gone afterwards."""
    with (tmp_path / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", procfile()[name]], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def answers(url: str, **options: tuple[str, str]) -> int:
    """The status of an answer; 0 where nobody listens yet."""
    try:
        return httpx.get(url, timeout=5, trust_env=False, **options).status_code  # type: ignore[arg-type]
    except httpx.HTTPError:
        return 0


def test_the_procfile_names_programs_that_exist() -> None:
    assert list(procfile()) == ["web", "worker", "flower"]
    for command in procfile().values():
        words = [word for word in command.split() if "=" not in word and not word.endswith(("}", ":password}"))]
        program = next(word for word in words if word in {"python", "celery"})
        assert (Path(sys.executable).parent / program).exists()
        if program == "python":
            assert importlib.util.find_spec(words[words.index("-m") + 1])
        else:
            assert importlib.util.find_spec(words[words.index("-A") + 1])


def test_web_and_worker_of_the_procfile_do_the_job(environment: dict[str, str], tmp_path: Path) -> None:
    # Given web and worker, started by their lines
    base = f"http://127.0.0.1:{environment['PORT']}"
    with running("web", environment, tmp_path) as web, running("worker", environment, tmp_path) as worker:
        until(lambda: answers(f"{base}/readyz") == 200, web)

        # When a webhook comes in
        type = "customer.loyalty.tier.joined"
        body = httpx.Request("POST", base, json=envelope(type, sample_data(type))).content
        headers = {"x-voucherify-signature": sign(body, SECRET)}
        answer = httpx.post(f"{base}/webhooks/voucherify", content=body, headers=headers, trust_env=False)

        # Then it is accepted, and its job is done
        assert answer.status_code == 202
        settings = load_settings(environment)
        ledger = open_ledger(settings, role="operator")
        reader = Reader(ledger, prepare(ledger, settings))
        try:
            until(lambda: _is_done(reader, answer.json()["delivery"]), worker)
        finally:
            ledger.client.close()


def _is_done(reader: Reader, delivery: str) -> bool:
    info = reader.delivery(delivery)
    return info is not None and [str(job.state) for job in reader.jobs_of(info)] == ["done"]


def test_flower_of_the_procfile_asks_for_the_password(environment: dict[str, str], tmp_path: Path) -> None:
    base = f"http://127.0.0.1:{environment['FLOWER_PORT']}"
    with running("flower", environment, tmp_path) as flower:
        until(lambda: answers(f"{base}/healthcheck") == 200, flower)
        assert answers(f"{base}/workers") == 401
        assert answers(f"{base}/workers", auth=("name", "password")) == 200


def test_flower_without_a_password_does_not_start(environment: dict[str, str]) -> None:
    del environment["FLOWER_BASIC_AUTH"]
    ended = subprocess.run(
        ["sh", "-c", procfile()["flower"]],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode != 0
    assert b"set it to name:password" in ended.stderr


def test_compose_has_every_process_of_the_procfile_and_what_they_need() -> None:
    assert set(SERVICES) == {*procfile(), "valkey", "postgres", "mailpit"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_restarts_stops_in_time_and_has_its_networks(service: str) -> None:
    found = SERVICES[service]
    assert {"restart", "stop_grace_period", "networks"} <= set(found)
    assert found["networks"]
    assert set(found["networks"]) <= set(COMPOSE["networks"])


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_says_how_it_is(service: str) -> None:
    # The image's own is the receiver's.
    assert "healthcheck" in SERVICES[service] or (service == "web" and "/healthz" in DOCKERFILE)


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_receiver_listens_beyond_this_machine(service: str) -> None:
    for port in SERVICES[service].get("ports", []):
        assert service == "web" or port.startswith("127.0.0.1:")


def test_the_ledger_cannot_be_reached_from_outside_and_keeps_all() -> None:
    valkey = SERVICES["valkey"]
    assert valkey["networks"] == ["ledger"]
    assert COMPOSE["networks"]["ledger"] == {"internal": True}
    assert "ledger:/data" in valkey["volumes"]
    postgres = SERVICES["postgres"]
    assert postgres["networks"] == ["ledger"]
    assert "ports" not in postgres
    assert "history:/var/lib/postgresql/data" in postgres["volumes"]
    for setting in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert setting in valkey["command"][-1]


def test_the_spool_outlives_the_container_and_belongs_to_the_images_user() -> None:
    web = SERVICES["web"]
    folder = web["environment"]["TIERCAST_SPOOL_DIR"]
    assert f"spool:{folder}" in web["volumes"]
    assert "spool" in COMPOSE["volumes"]
    # A new volume takes over the owner of the folder that it is mounted on.
    assert f"install -d -m 700 -o tiercast -g tiercast {folder}" in DOCKERFILE


def test_no_secret_stands_in_compose_and_a_missing_one_is_named() -> None:
    for name in (
        "VALKEY_PASSWORD",
        "POSTGRES_PASSWORD",
        "TIERCAST_HASH_KEY",
        "TIERCAST_WEBHOOK_SECRETS",
        "FLOWER_BASIC_AUTH",
    ):
        assert f"${{{name}:?" in COMPOSE_TEXT
        assert re.search(f"^{name}=$", (ROOT / "examples" / "compose.env").read_text(), re.MULTILINE)


def test_every_variable_that_compose_sets_is_one_of_ours() -> None:
    named = re.findall(r"^ENV (TIERCAST_[A-Z_]+)|^\s+(TIERCAST_[A-Z_]+)=", DOCKERFILE, re.MULTILINE)
    set_there = {first or second for first, second in named}
    set_there |= {name for service in SERVICES.values() for name in service.get("environment", {})}
    assert {name for name in set_there if name.startswith("TIERCAST_")} <= VARIABLES


def test_the_image_runs_as_nobody_special_from_locked_wheels() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9][0-9]*$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert all("--require-hashes" in line for line in DOCKERFILE.splitlines() if "-r requirements/" in line)
    assert all(int(minor) >= 12 for minor in re.findall(r"^FROM python:3\.(\d+)-slim", DOCKERFILE, re.MULTILINE))


def test_the_build_gets_all_packages_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    packages = re.search(r"^packages = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages
    needed = set(re.findall(r'"(\w+)"', packages[1])) | {"pyproject.toml", "README.md", "LICENSE", "requirements"}
    assert allowed == needed
    assert not [name for name in allowed if not (ROOT / name).exists()]


def test_the_ledgers_command_hides_the_password_and_starts(tmp_path: Path) -> None:
    """The command of the service `valkey`, with this machine's server in the place of the image's."""
    from tiercast.embedded import find_server

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "valkey-server").symlink_to(find_server())
    port = free_port()
    script = (
        SERVICES["valkey"]["command"][-1].replace("$$", "$").replace("--dir /data", f"--dir {tmp_path} --port {port}")
    )
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "VALKEY_PASSWORD": "pass123"}
    process = subprocess.Popen(["sh", "-c", script], env=env, stdout=subprocess.DEVNULL)
    try:
        until(lambda: _pings(f"redis://:pass123@127.0.0.1:{port}/0"), process)
        assert not _pings(f"redis://127.0.0.1:{port}/0")
        assert b"pass123" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        process.terminate()
        assert process.wait(20) == 0


def _pings(url: str) -> bool:
    client = connect(url, timeout=2)
    try:
        return bool(client.ping())
    except LedgerError:
        return False
    finally:
        client.close()
