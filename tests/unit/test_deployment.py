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

import httpx
import pytest

from tiercast.embedded import EmbeddedServer, free_port
from tiercast.ledger import open_ledger, prepare
from tiercast.ledger.reading import Reader
from tiercast.ledger.store import connect
from tiercast.samples import envelope, sample_data
from tiercast.settings import load_settings
from tiercast.signature import sign

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

SECRET = "a-secret-of-the-test"

#: Seconds that a process may take to do what is waited for, on a busy machine.
PATIENCE = 60.0


def procfile() -> dict[str, str]:
    """The lines of the Procfile by name."""
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    return {name: command.strip() for name, _, command in (line.partition(":") for line in lines)}


def block(text: str, *path: str) -> list[str]:
    """The lines below a key of a YAML file that is written as ours are: two spaces a level, block style."""
    lines = text.splitlines()
    for depth, key in enumerate(path):
        start = next(i for i, line in enumerate(lines) if re.fullmatch(f"{'  ' * depth}{re.escape(key)}:.*", line))
        rest = lines[start + 1 :]
        end = next((i for i, line in enumerate(rest) if re.match(f" {{0,{2 * depth}}}[^ #]", line)), len(rest))
        lines = rest[:end]
    return [line for line in lines if line.strip()]


def services() -> list[str]:
    """The names of the services."""
    return [line.strip(" :") for line in block(COMPOSE, "services") if re.fullmatch(r"  [a-z]+:", line)]


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
    assert set(services()) == {*procfile(), "valkey", "mailpit"}


@pytest.mark.parametrize("service", services())
def test_every_service_restarts_stops_in_time_and_has_its_networks(service: str) -> None:
    lines = "\n".join(block(COMPOSE, "services", service))
    if "<<: *tiercast" in lines:
        lines += "\n".join(block(COMPOSE, "x-tiercast"))
    for key in ("restart:", "stop_grace_period:", "networks:"):
        assert key in lines, key
    known = [line.strip(" :") for line in block(COMPOSE, "networks") if re.fullmatch(r"  [a-z]+:", line)]
    used = [line.strip(" -") for line in block(COMPOSE, "services", service, "networks")]
    assert used
    assert set(used) <= set(known)


@pytest.mark.parametrize("service", services())
def test_every_service_says_how_it_is(service: str) -> None:
    own = any(line.startswith("    healthcheck:") for line in block(COMPOSE, "services", service))
    # The image's own is the receiver's.
    assert own or (service == "web" and "/healthz" in DOCKERFILE)


@pytest.mark.parametrize("service", services())
def test_only_the_receiver_listens_beyond_this_machine(service: str) -> None:
    lines = block(COMPOSE, "services", service)
    if not any(line.startswith("    ports:") for line in lines):
        return
    for line in block(COMPOSE, "services", service, "ports"):
        assert service == "web" or line.strip().startswith('- "127.0.0.1:')


def test_the_ledger_cannot_be_reached_from_outside_and_keeps_all() -> None:
    assert block(COMPOSE, "services", "valkey", "networks") == ["      - ledger"]
    assert block(COMPOSE, "networks", "ledger") == ["    internal: true"]
    lines = "\n".join(block(COMPOSE, "services", "valkey"))
    for setting in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction", "- ledger:/data"):
        assert setting in lines


def test_the_spool_outlives_the_container_and_belongs_to_the_images_user() -> None:
    lines = "\n".join(block(COMPOSE, "services", "web"))
    folder = re.search(r"TIERCAST_SPOOL_DIR: (\S+)", lines)
    assert folder
    assert f"- spool:{folder[1]}" in lines
    assert "  spool:" in block(COMPOSE, "volumes")
    # A new volume takes over the owner of the folder that it is mounted on.
    assert f"install -d -m 700 -o tiercast -g tiercast {folder[1]}" in DOCKERFILE


def test_no_secret_stands_in_compose_and_a_missing_one_is_named() -> None:
    for name in ("VALKEY_PASSWORD", "TIERCAST_HASH_KEY", "TIERCAST_WEBHOOK_SECRETS", "FLOWER_BASIC_AUTH"):
        assert f"${{{name}:?" in COMPOSE
        assert re.search(f"^{name}=$", (ROOT / "examples" / "compose.env").read_text(), re.MULTILINE)


def test_every_variable_that_compose_sets_is_one_of_ours() -> None:
    known = "".join(path.read_text() for path in (ROOT / "tiercast").rglob("*.py"))
    for name in set(re.findall(r"^\s+(TIERCAST_[A-Z_]+):", COMPOSE + DOCKERFILE, re.MULTILINE)):
        assert f'"{name}"' in known, name


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
    lines = block(COMPOSE, "services", "valkey", "command")
    script = "\n".join(line.removeprefix("        ") for line in lines[lines.index("      - |") + 1 :])
    port = free_port()
    script = script.replace("$$", "$").replace("--dir /data", f"--dir {tmp_path} --port {port}")
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
    import redis

    client = connect(url, timeout=2)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
