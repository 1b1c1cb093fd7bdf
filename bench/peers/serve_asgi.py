"""Serves the FastAPI app on two processes of uvicorn, with uvloop and httptools, as FastAPI's documentation advises."""

from __future__ import annotations

import sys

import uvicorn

if __name__ == "__main__":
    uvicorn.run(
        "bench.peers.fastapi_arq:app",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        workers=2,
        access_log=False,
        log_level="error",
    )
