"""Serves a Flask app on the server that our receiver uses, with the very same options."""

from __future__ import annotations

import sys

from receiver.serve import serve

if __name__ == "__main__":
    target, port = sys.argv[1:]
    serve(host="127.0.0.1", port=int(port), workers=2, target=target)
