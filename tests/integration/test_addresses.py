"""An event goes all the way where ledger and broker are behind TLS, or on a Unix socket."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.integration.test_front_door_tls import terminator
from tests.servers.certificate import make_certificate
from tests.stack import Stack
from tiercast.bells import publisher
from tiercast.embedded import EmbeddedServer
from tiercast.settings import load_settings

CONFIG = '[actions.say]\nkind = "log"\nmessage = "hello"\n\n[[rules]]\non = "*"\ndo = ["say"]\n'


def goes_all_the_way(stack: Stack) -> None:
    stack.start_web()
    stack.start_worker()
    assert {name: str(job.state) for name, job in stack.settled(stack.send()).items()} == {"say": "done"}
    assert "timer.no_bell" not in stack.log("worker")


def test_over_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    env: dict[str, str] = {}
    with Stack(tmp_path, CONFIG, env=env) as stack, terminator(made, stack.server) as port:
        stack.change_env(TIERCAST_REDIS_URL=f"rediss://localhost:{port}/0", TIERCAST_REDIS_CA=str(made.path))
        goes_all_the_way(stack)


def test_on_a_unix_socket(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "ledger.sock"
    with Stack(tmp_path, CONFIG) as stack:
        stack.server.stop()
        stack.server = EmbeddedServer(tmp_path / "other", appendfsync="everysec", unixsocket=str(path))
        stack.server.start()
        stack.change_env(TIERCAST_REDIS_URL=f"unix://{path}?db=1")
        goes_all_the_way(stack)
        assert redis.Redis(port=stack.server.port, db=1).exists("tc:lanes")


def test_a_bell_is_not_rung_where_the_brokers_certificate_is_nobodys(
    server: EmbeddedServer, client: redis.Redis, tmp_path: Path
) -> None:
    made = make_certificate(tmp_path)
    with terminator(made, server) as port:
        url = f"rediss://:a-password@localhost:{port}/0"
        with pytest.raises(Exception, match="certificate verify failed"):
            publisher(load_settings({"TIERCAST_BROKER_URL": url}))("jobs/one")
    assert client.llen("tiercast") == 0
