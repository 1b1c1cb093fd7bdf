"""Runs two arq workers, one a core: arq's own command runs one."""

from __future__ import annotations

import asyncio
import multiprocessing

import uvloop
from arq import run_worker

from bench.peers.fastapi_arq import WorkerSettings


def work() -> None:
    asyncio.set_event_loop(uvloop.new_event_loop())
    run_worker(WorkerSettings)


if __name__ == "__main__":
    workers = [multiprocessing.Process(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
