"""The scenarios: each disturbs an arena while the sender sends, and says how many jobs were in flight then."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from .arena import CAPACITY, Arena, pause
from .backlog import KillInBacklog, KillInFlight
from .clock import ClockAhead
from .copies import Copies
from .disk import FullSpoolDisk
from .failover import Replicated, Watched
from .filing import KillFiler, KillFilerPostgresql
from .operations import OperationKills
from .outage import LedgerAway, LedgerAwayMinute
from .rabbitmq import WithRabbitMQ
from .scenario import Scenario
from .sender import Sender


class KillWorkers(Scenario):
    """SIGKILL one worker after the other, by turns whole and one process of its pool, under load."""

    name = "kill-workers"

    def disturb(self, arena: Arena, sender: Sender) -> int:
        held = 0
        for share in (0.2, 0.5, 0.8):
            sender.wait(share)
            held += arena.kill_worker(arena.workers[0])
            held += arena.kill_child(arena.workers[0])
            arena.add_worker()
        return held


class KillReceivers(Scenario):
    """SIGKILL one receiver after the other; what got no answer is sent again."""

    name = "kill-receivers"

    def disturb(self, arena: Arena, sender: Sender) -> int:
        for share in (0.2, 0.5, 0.8):
            sender.wait(share)
            arena.replace_web(next(iter(arena.webs)))
        return 0


class KillLedger(Scenario):
    """SIGKILL the ledger, twice, and start it on its data a second later."""

    name = "kill-ledger"

    def disturb(self, arena: Arena, sender: Sender) -> int:
        for share in (0.3, 0.7):
            sender.wait(share)
            arena.server.kill()
            pause(1)
            arena.server.start()
        return 2 * CAPACITY


class LoseBroker(Scenario):
    """Flush the broker (a server of its own) empty, then kill it for good."""

    name = "lose-broker"
    arena: ClassVar[Mapping[str, Any]] = {"broker": True}

    def disturb(self, arena: Arena, sender: Sender) -> int:
        import redis

        assert arena.broker
        client = redis.Redis.from_url(arena.broker.url)
        for share in (0.2, 0.35, 0.5):
            sender.wait(share)
            client.flushall()
        client.close()
        sender.wait(0.6)
        arena.broker.kill()
        return 0


class LoseRabbitMQ(Scenario):
    """Delete RabbitMQ's queue of bells, three times, then cut every connection to it for good."""

    name = "lose-rabbitmq"
    stage = WithRabbitMQ

    def disturb(self, arena: Arena, sender: Sender) -> int:
        assert isinstance(arena, WithRabbitMQ)
        for share in (0.2, 0.35, 0.5):
            sender.wait(share)
            arena.delete_queue()
        sender.wait(0.6)
        arena.cut()
        return 0


class FreezeServers(Scenario):
    """SIGSTOP broker and ledger for longer than a lease, then let them go on."""

    name = "freeze-servers"
    arena: ClassVar[Mapping[str, Any]] = {"broker": True, "lease": 3}
    may_repeat_paid = True

    def disturb(self, arena: Arena, sender: Sender) -> int:
        sender.wait(0.4)
        servers = [server.process for server in (arena.broker, arena.server) if server and server.process]
        for process in servers:
            process.send_signal(signal.SIGSTOP)
        pause(5)
        for process in servers:
            process.send_signal(signal.SIGCONT)
        return CAPACITY


class FreezeWorker(Scenario):
    """SIGSTOP a worker past its leases, while another takes its work up, then let it go on."""

    name = "freeze-worker"
    arena: ClassVar[Mapping[str, Any]] = {"lease": 3}
    may_repeat_paid = True

    def disturb(self, arena: Arena, sender: Sender) -> int:
        held = 0
        for share, name in zip((0.2, 0.6), list(arena.workers), strict=True):
            sender.wait(share)
            arena.freeze(name)
            held += arena.held()
            pause(6)
            arena.thaw(name)
        return held


class FullLedger(Scenario):
    """Bring the ledger to its memory limit with no worker there, drain it at the limit, then raise the limit."""

    name = "full-ledger"

    def disturb(self, arena: Arena, sender: Sender) -> int:
        client = arena.raw
        sender.wait(0.2)
        held = sum(arena.kill_worker(name) for name in list(arena.workers))
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", round((used + 300_000) / 0.8))
        deadline = time.monotonic() + 60
        while not sender.refused["503"] and time.monotonic() < deadline:
            pause(0.1)
        arena.add_worker()
        arena.wait_until_drained(60)
        self._refused = sender.refused["503"]
        client.config_set("maxmemory", 0)
        client.close()
        arena.add_worker()
        return held

    def check(self, arena: Arena, sender: Sender) -> list[str]:
        return [] if self._refused else ["the ledger never refused: the scenario shows nothing"]


class SlowAction(Scenario):
    """An action that takes three times its lease: it is renewed, and done once."""

    name = "slow-action"
    arena: ClassVar[Mapping[str, Any]] = {"lease": 1.5, "slow": 4.5}
    share: ClassVar[float] = 0.3

    def disturb(self, arena: Arena, sender: Sender) -> int:
        return 0


class FailOver(Scenario):
    """Kill the primary for good under `replica:1`, and go on with the one of two replicas that knows most."""

    name = "fail-over"
    stage = Replicated

    def variables(self, folder: Path) -> dict[str, str]:
        return {"TIERCAST_DURABILITY": "replica:1"}

    def disturb(self, arena: Arena, sender: Sender) -> int:
        assert isinstance(arena, Replicated)
        sender.wait(0.5)
        arena.fail_over()
        return CAPACITY


class SentinelFailOver(Scenario):
    """Under `replica:1` sentinels move to a replica: the primary is killed, and a while after the next one is frozen.

    A sentinel dies with the first. The second goes on when another is the primary already, and takes itself for one
    until it is told: what it hands out then, nobody has confirmed.
    """

    name = "sentinel-failover"
    stage = Watched

    def variables(self, folder: Path) -> dict[str, str]:
        return {"TIERCAST_DURABILITY": "replica:1"}

    def disturb(self, arena: Arena, sender: Sender) -> int:
        assert isinstance(arena, Watched)
        sender.wait(0.3)
        arena.sentinels.kill_sentinel(arena.sentinels.ports[0])
        arena.fail_over()
        arena.sentinels.bring_back()
        sender.wait(0.6)
        arena.fail_over(freeze=True)
        arena.sentinels.bring_back()
        return 2 * CAPACITY


class RollingRestart(Scenario):
    """Restart everything warmly, one after the other, with a configuration that asks for one action more."""

    name = "rolling-restart"

    def disturb(self, arena: Arena, sender: Sender) -> int:
        sender.wait(0.1)
        more = arena.config.replace("[[rules]]", _MORE.format(sink=arena.sink.url), 1)
        (arena.folder / "tiercast.toml").write_text(more.replace('"quick", "bulk"', '"quick", "bulk", "more"'))
        for name in list(arena.workers):
            arena.workers.remove(name)
            arena.stop(name, signal.SIGTERM)
            arena.add_worker()
        for name in list(arena.webs):
            arena.replace_web(name, signal.SIGTERM)
        return 0

    def check(self, arena: Arena, sender: Sender) -> list[str]:
        more = any(job.endswith(":more") for job in arena.sink.effects())
        return [] if more else ["no event met the new configuration: the scenario shows nothing"]


_MORE = """
[actions.more]
kind = "tests.chaos.kinds:Effect"
sink = "{sink}"

[[rules]]"""


#: In the order in which they run.
ALL: tuple[type[Scenario], ...] = (
    KillWorkers,
    KillReceivers,
    KillLedger,
    LoseBroker,
    LoseRabbitMQ,
    FreezeServers,
    FreezeWorker,
    LedgerAway,
    FullLedger,
    SlowAction,
    FailOver,
    SentinelFailOver,
    RollingRestart,
    ClockAhead,
    FullSpoolDisk,
    Copies,
    LedgerAwayMinute,
    KillInBacklog,
    KillInFlight,
    KillFiler,
    KillFilerPostgresql,
    OperationKills,
)
