"""What being watched costs: processor time of one request without metrics, with them, and traced.

python -m bench.metering

Requests go straight into the ASGI application, so that neither a server nor a client hides the
difference. Each case runs in processes of its own, in turns; the quickest round of each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CASES: dict[str, dict[str, str]] = {
    "nothing": {},
    "metrics": {"metrics.bind": "127.0.0.1:1"},
    "metrics and traces, all": {
        "metrics.bind": "127.0.0.1:1",
        "tracing.endpoint": "http://127.0.0.1:1",
    },
}
"""The settings of each case; nobody listens at these addresses, and nobody is asked to."""
IMAGES = 25


async def serve(settings: dict[str, str], data: Path, requests: int, rounds: int) -> dict[str, Any]:
    """Microseconds of processor time for a list and a show, the quickest round of each."""
    from transom import tracing
    from transom.app import App
    from transom.auth import bootstrap
    from transom.settings import load

    loaded = load(None, data, {}, {"identity.backend": "none", "server.worker": False, **settings})
    tracing.start(loaded.tracing.endpoint, 1.0, "bench")
    app = App.build(loaded)
    app.registry.catalog.upgrade()
    bootstrap(loaded, app.registry.catalog)
    await app.start()

    async def ask(method: str, path: str, body: bytes = b"") -> bytes:
        answer = bytearray()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            answer.extend(message.get("body", b""))

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
            "root_path": "", "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 9292),
            "headers": [(b"host", b"x"), (b"content-length", str(len(body)).encode())],
        }  # fmt: skip
        await app.face(scope, receive, send)
        return bytes(answer)

    made = [await ask("POST", "/v2/images", b'{"name": "bench"}') for _ in range(IMAGES)]
    one = json.loads(made[0])["id"]
    best: dict[str, Any] = {}
    for _ in range(rounds):
        for name, path in (("list", "/v2/images"), ("show", f"/v2/images/{one}")):
            began = time.process_time()
            for _ in range(requests):
                await ask("GET", path)
            spent = (time.process_time() - began) / requests * 1e6
            best[name] = min(best.get(name, spent), spent)
    await app.stop()
    return best


def main() -> int:
    """Run every case in turns and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--requests", type=int, default=1000, help="in one round")
    arguments.add_argument("--rounds", type=int, default=3, help="in one process")
    arguments.add_argument("--turns", type=int, default=3, help="processes of each case")
    arguments.add_argument("--case", help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.case is not None:
        with tempfile.TemporaryDirectory() as folder:
            work = serve(CASES[args.case], Path(folder), args.requests, args.rounds)
            print(json.dumps(asyncio.run(work)))
        return 0
    best: dict[str, dict[str, float]] = {}
    for _ in range(args.turns):
        for case in CASES:
            command = [sys.executable, "-m", "bench.metering", "--case", case]
            command += ["--requests", str(args.requests), "--rounds", str(args.rounds)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            kept = best.setdefault(case, found)
            best[case] = {name: min(kept[name], found[name]) for name in kept}
    print(f"{'':26}{'list of 25':>14}{'show':>14}   µs of processor time a request")
    for case, found in best.items():
        print(f"{case:26}{found['list']:14.1f}{found['show']:14.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
