"""The measuring programs: they load, the load generator counts rightly, what they write is as it should be."""

from __future__ import annotations

import ast
import math
import smtplib
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import __main__ as bench_main
from bench import ceiling, fairness, kinds, load, scale, sizing, waiting_report, window, workloads
from bench.contenders import Setting
from bench.effects import ACTIONS, SIGNATURE
from bench.endpoint import Spec
from bench.endpoint_process import EndpointProcess
from bench.events import PATH, body
from bench.measure import quantile
from bench.participants import ALL, BY_NAME, REFERENCE, configuration
from bench.plot import Row, bars
from bench.report import MODES, markdown, terminal, write_between
from bench.summary import Summary
from bench.waiting import Outcome
from tiercast.config import load_config
from tiercast.settings import load_settings
from tiercast.signature import verify

ROOT = Path(__file__).parents[2]
SECRET = "a-secret-of-the-test"


class Server(ThreadingHTTPServer):
    """Answers 202 to an authentic webhook, else 401, and keeps the bodies."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []
        self.pause = 0.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        good = self.path == PATH and verify(content, self.headers[SIGNATURE], [SECRET]).ok
        self.server.bodies.append(content)
        time.sleep(self.server.pause)
        self.send_response(202 if good else 401)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def plan(server: Server, **more: object) -> load.Plan:
    return load.Plan(**{"port": server.server_port, "secret": SECRET, "count": 40, "connections": 4, **more})  # type: ignore[arg-type]


def test_the_closed_loop_sends_each_webhook_once(server: Server) -> None:
    # When
    done = load.run(plan(server))

    # Then
    assert (done.acks, done.refused) == (40, 0)
    assert len(done.latencies) == len(done.sent) == len(set(server.bodies)) == 40
    assert done.seconds > 0
    assert done.cpu < done.seconds + 0.1


def test_the_open_loop_counts_from_when_a_request_was_due(server: Server) -> None:
    # Given a server that takes 50 ms an answer, on one connection, and requests that are due every 5 ms
    server.pause = 0.05

    # When
    done = load.run(plan(server, count=10, connections=1, rate=200.0))

    # Then the last was due after 45 ms and answered after 500
    assert done.acks == 10
    assert max(done.latencies) > 0.4


def test_refusals_are_not_counted_as_acks(server: Server) -> None:
    done = load.run(plan(server, secret="another", count=5))
    assert (done.acks, done.refused) == (0, 5)


def test_an_answer_may_come_in_pieces() -> None:
    answers = load.Answers()
    assert answers.feed(b"HTTP/1.1 202 Accepted\r\nContent-Le") is None
    assert answers.feed(b"ngth: 4\r\n\r\nab") is None
    assert answers.feed(b"cd") == 202
    assert answers.feed(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n") == 503


def test_all_programs_can_be_read() -> None:
    peers = sorted((ROOT / "bench" / "peers").rglob("*.py"))
    assert len(peers) >= 8
    for path in peers:
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for program in (bench_main, scale, fairness, window, ceiling):
        assert callable(program.main)
    assert REFERENCE in BY_NAME


@pytest.mark.parametrize("who", [one for one in ALL if one.kind], ids=lambda one: one.name)
def test_our_configuration_is_valid(who: object, tmp_path: Path) -> None:
    assert who in ALL
    text = configuration(dict.fromkeys(ACTIONS, getattr(who, "kind", "")) | {"hang": "bench.kinds:Hang"})
    (tmp_path / "tiercast.toml").write_text(text)
    config = load_config(
        load_settings({"TIERCAST_CONFIG": str(tmp_path / "tiercast.toml"), "TIERCAST_WEBHOOK_SECRETS": SECRET})
    )
    assert set(config.actions) == {*ACTIONS, "hang"}
    assert config.actions["a"].cls.is_bulk() == getattr(who, "bulk", None)


def test_every_body_tells_another_event() -> None:
    assert b'"evcus_x"' in body("evcus_x")
    assert body("evcus_x") != body("evcus_x")  # another customer and send-out
    assert kinds.Hang.repeatable


def test_quantiles() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50, 99, 100, 100]
    assert math.isnan(quantile([], 0.5))


def figures(scale: float) -> dict[str, float]:
    """What one participant measured, `scale` times as good as the reference."""
    return {"acks": 100 * scale, "drained": 50 * scale, "open_p99": 9.0, "idle_p50": 5.0, "idle_p99": 8.0, "extra": 0}


def test_ratios_are_taken_within_a_round() -> None:
    # Given a second round in which the machine was half as fast for both
    rounds = {
        "flask-celery": [figures(1), figures(0.5), figures(1)],
        "flask-dramatiq": [figures(2), figures(1), figures(2)],
        "tiercast": [figures(6), figures(3), figures(6)],
    }

    # When
    summary = Summary(rounds)

    # Then
    assert summary.ratio("tiercast", "acks") == 6
    assert summary.best_peer("acks") == 2
    by_name = {bar.what: bar for bar in summary.bars()}
    assert by_name["acks a second, times the best peer"].met is True
    assert by_name["idle: webhook to action, p99, ms"].met is True
    assert by_name["actions a second in bulk, times the best peer"].met is None


def test_tables_fit_the_terminal_and_show_who_did_too_much() -> None:
    rounds = {"flask-celery": [figures(1)], "tiercast": [figures(6) | {"extra": 2}], "empty-flask": [{"acks": 1000.0}]}
    for mode in MODES:
        text = terminal(mode, Summary(rounds))
        assert max(map(len, text.splitlines())) <= 80
        assert "tiercast: 2 effects too many" in text
        assert "nan" not in markdown(mode, Summary(rounds))


def test_plots_are_valid_and_leave_out_what_was_not_measured() -> None:
    rows = [
        Row(label="a & b", value=3.0, low=2.0, high=4.0, ours=True),
        Row(label="none", value=math.nan, low=math.nan, high=math.nan, ours=False),
    ]
    drawing = ElementTree.fromstring(bars("A < B", rows))  # noqa: S314 - our own text
    assert [text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")] == ["A < B", "a & b", "3.0"]


@pytest.mark.parametrize("mark", ["waiting", "window", "bench", "scale", "fairness"])
def test_the_page_has_a_place_for_each_table(mark: str, tmp_path: Path) -> None:
    # Given a copy of the page
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text(encoding="utf-8"), encoding="utf-8")

    # When it is written to twice
    write_between(page, mark, "| first |")
    write_between(page, mark, r"| second \1 |")

    # Then the last stands there
    text = page.read_text(encoding="utf-8")
    assert r"| second \1 |" in text
    assert "| first |" not in text
    with pytest.raises(ValueError, match="has no <!-- other:begin -->"):
        write_between(page, "other", "")


def test_sizes_are_computed_from_what_was_measured() -> None:
    # Given 1 ms of each part an event, and 2 kB owed, 3 kB settled
    rounds = [{"cpu_server": 1.0, "cpu_web": 1.0, "cpu_worker": 1.0}] * 3
    found = sizing.costs({"results": {"everysec": {"tiercast": rounds}}}, [{"ledger": 2000, "settled": 3000}])

    # When a day has 360,000 events, so its busiest hour 10 a second
    ((events, rate, memory, *cores),) = sizing.rows(found, [360_000])

    # Then 7 days of settled ones and 6 hours of owed ones fit into 80 % of the memory, and cores are half busy
    assert (events, rate) == ("360,000", "10.0")
    assert memory == f"{(360_000 * 7 * 3000 + 10 * 3600 * 6 * 2000) / 0.8 / 1e9:.1f} GB"
    assert cores == ["0.02"] * 3
    assert "360,000" not in sizing.text(found)
    assert sizing.rows(found, [36_000_000])[0][3:] == ("2", "2", "2")


def test_sizing_without_figures_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sizing.main(["--bench", str(tmp_path / "none.json")]) == 1
    assert "Run first: make bench" in capsys.readouterr().err


@pytest.mark.parametrize("workload", workloads.ALL, ids=lambda one: one.name)
def test_the_configuration_of_each_workload_is_valid(
    workload: workloads.Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in workload.env(1).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tiercast.toml").write_text(workload.config(1))
    config = load_config(
        load_settings({"TIERCAST_CONFIG": str(tmp_path / "tiercast.toml"), "TIERCAST_WEBHOOK_SECRETS": SECRET})
    )
    assert set(config.actions) == {"act"}
    assert workload.bulk == (workload.name == "crm-bulk-300ms")


def call(port: int, event_id: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/hook", b"{}", headers={"webhook-id": f"voucherify:{event_id}:act"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_endpoint_counts_each_event_and_what_is_doubled() -> None:
    with EndpointProcess(Spec(delay=0.05), interpreter=sys.executable) as endpoint:
        began = time.monotonic()
        assert [call(endpoint.port, name) for name in ("evcus_a", "evcus_b", "evcus_a")] == [200] * 3
        assert time.monotonic() - began >= 0.14
        found = endpoint.stats()
        assert (found.jobs, found.distinct, found.unknown, found.in_flight, found.peak) == (3, 2, 0, 0, 1)
        assert sum(found.answered) == 3
        assert endpoint.reset().jobs == 0


def test_the_endpoint_refuses_what_is_above_its_rate() -> None:
    with EndpointProcess(Spec(rate=2), interpreter=sys.executable) as endpoint:
        assert [call(endpoint.port, f"evcus_{n}") for n in range(3)] == [200, 200, 429]
        found = endpoint.stats()
        assert (found.jobs, sum(found.answered), sum(found.refused)) == (2, 2, 1)


def test_the_endpoint_queues_what_is_above_its_capacity() -> None:
    with EndpointProcess(Spec(delay=0.1, capacity=1), interpreter=sys.executable) as endpoint:
        callers = [threading.Thread(target=call, args=(endpoint.port, f"evcus_{n}")) for n in range(3)]
        began = time.monotonic()
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert time.monotonic() - began >= 0.29
        assert endpoint.stats().distinct == 3


def test_the_mail_server_speaks_the_protocol_and_counts_messages() -> None:
    spec = Spec(protocol="smtp", delay=0.01)
    with (
        EndpointProcess(spec, interpreter=sys.executable) as endpoint,
        smtplib.SMTP("127.0.0.1", endpoint.port) as mail,
    ):
        assert mail.docmd("DATA")[0] == 503
        assert mail.docmd("RCPT", "TO:<b@example.com>")[0] == 503
        for name in ("evcus_a", "evcus_b"):
            mail.sendmail("a@shop.example", ["b@example.com"], f"Subject: Event {name}\r\n\r\n.dots\r\n.\r\n")
        assert mail.docmd("NONE")[0] == 500
        found = endpoint.stats()
        assert (found.jobs, found.distinct, found.unknown) == (2, 2, 0)


def waited(rate: float, **more: float) -> dict[str, float]:
    names = ("first", "peak", "memory", "memory_all", "cpu_server", "endpoint_share", "missing", "doubled", "unsigned")
    return dict.fromkeys(names, 0.0) | {"rate": rate, "cpu_worker": 0.4} | more


def test_the_bars_of_waiting_are_taken_against_the_best_peer_of_each_shape() -> None:
    # Given
    rounds = {
        "celery-gevent": [waited(500)],
        "bullmq": [waited(1000)],
        "bullmq-event": [waited(2000)],
        "tiercast": [waited(3000, doubled=1)],
    }
    outcome = Outcome(rounds=rounds, best=dict.fromkeys(rounds, Setting()))

    # When
    found = [(bar.measured, bar.met) for bar in waiting_report.bars("http-30ms", outcome)]

    # Then
    assert found == [("3.00", True), ("1.50", False), ("0.40", True)]
    text = waiting_report.terminal("http-30ms", outcome)
    assert "Tiercast, round 1: 1 calls too many" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "nan" not in waiting_report.markdown({"http-30ms": outcome})
    assert Outcome.read(outcome.document()) == outcome


def test_the_course_at_a_vendor_is_judged_after_the_time_for_learning() -> None:
    course = window.Course(bears=10, learning=2, answered=[0, 0, 9, 9], refused=[5, 0, 0, 0], held=[1] * 4)
    assert course.kept
    assert course.share == 0.9
    course.dead = 1
    assert not course.kept


def test_sizes_of_waiting_are_computed_from_our_rows() -> None:
    row = {"rate": 2000.0, "cpu_worker": 0.36, "cpu_server": 0.1, "peak": 600.0}
    found = sizing.waiting_costs({"http-30ms": {"rounds": {"tiercast": [row]}}, "smtp-50ms": {"rounds": {}}})
    assert list(found) == ["http-30ms"]
    assert "| http-30ms | 2,000 | 600 | 0.36 | 0.10 | 0.02 |" in sizing.waiting_text(found, [1_000_000])


@pytest.mark.parametrize(
    ("p99", "replaced", "kept"),
    [(0.140, 0, True), (0.151, 0, False), (0.140, 1, False)],
    ids=["within", "too late", "a process was replaced"],
)
def test_hanging_actions_may_cost_the_others_a_little_time_and_no_process(
    p99: float, replaced: int, kept: bool
) -> None:
    # Given runs in which the quick actions start after 50 ms where none hangs, and later where three do
    quick, plain, asynchronous = fairness.modes()
    quick.runs.append(fairness.Run([0.05] * 100))
    plain.runs.append(fairness.Run([0.05] * 100))
    asynchronous.runs.append(fairness.Run([p99] * 100, replaced=replaced))

    # When
    text, all_kept = fairness.report([quick, plain, asynchronous], rate=20)

    # Then
    assert all_kept is kept
    assert text.count("NOT kept") == (0 if kept else 1)
    assert [row.count("|") for row in text.splitlines() if row.startswith("|")] == [7] * 5
