"""An empty Flask route: what the framework and the server cost alone."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__)


@app.post("/webhooks/voucherify")
def receive() -> tuple[str, int]:
    return '{"delivery": "none"}', 202
