"""The how-to "Run three replicas", done as it says: only the ports are others."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ceph, postgres
from tests.support.ports import free_port, free_ports
from tests.support.replicas import ROOT

pytestmark = pytest.mark.faults

HOWTO = ROOT / "docs/howto/run-three-replicas.md"
HEADINGS = (
    "One configuration for all", "Start them", "nginx before them", "Use it", "Lose one", "Upgrade", "Stop",
)  # fmt: skip

_REAPING = """
import ctypes, os, sys
# What ./replica starts outlives it, and somebody has to take note of its end: on a machine that is
# init, in a container maybe nobody.
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
shell = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
while True:
    ended, status = os.wait()
    if ended == shell:
        sys.exit(os.waitstatus_to_exitcode(status))
"""


def blocks() -> list[tuple[str, str]]:
    """The commands of the how-to, each under its heading."""
    found = []
    for part in HOWTO.read_text().split("\n## ")[1:]:
        heading = part.partition("\n")[0]
        found += [(heading, block) for block in re.findall(r"```bash\n(.*?)```", part, re.DOTALL)]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in which nothing runs afterwards."""
    yield tmp_path
    for file in [*tmp_path.glob("*.pid"), tmp_path / "nginx/nginx.pid"]:
        if file.exists():
            # The master of nginx ends its workers, if it is asked to.
            number = signal.SIGTERM if file.name == "nginx.pid" else signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text()), number)


def test_the_how_to_works_as_it_stands(folder: Path) -> None:
    gateway = ceph.gateway()
    # Twelve in a row hold three that differ in their last digit only: 1, 2 and 3.
    ports = {"930": str((free_ports(12) + 8) // 10), "9290": str(free_port())}

    def elsewhere(text: str) -> str:
        return re.sub(r"(?<!\d)(9290|930(?=\d|\$))", lambda found: ports[found[1]], text)

    shipped = ROOT / "deploy/nginx/transom.conf"
    conf = folder / "checkout" / shipped.relative_to(ROOT)
    conf.parent.mkdir(parents=True)
    conf.write_text(elsewhere(shipped.read_text()).replace("listen ", "listen 127.0.0.1:"))
    where = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OS_", "TRANSOM_", "AWS_"))
        },
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
        "HOME": str(folder),
        "DATABASE_URL": postgres.cluster().database(),
        "S3_ENDPOINT": gateway.url,
        "S3_BUCKET": gateway.bucket(),
        "CHECKOUT": str(folder / "checkout"),
        "AWS_ACCESS_KEY_ID": gateway.access_key,
        "AWS_SECRET_ACCESS_KEY": gateway.secret_key,
    }
    assert tuple(heading for heading, _ in blocks()) == HEADINGS
    # One shell for all of it, as a reader has.
    text = "".join(f"echo '== {heading}'\n{elsewhere(block)}" for heading, block in blocks())
    done = subprocess.run(
        [sys.executable, "-c", _REAPING, "bash", "-euc", text],
        env=where, cwd=folder, capture_output=True, text=True, timeout=300, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    logs = {log.name: log.read_text()[-2000:] for log in folder.glob("*.log")}
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    for log in folder.glob("*.log"):
        assert "Traceback" not in log.read_text(), log.read_text()[-3000:]
        assert "replicas.not_shared" not in log.read_text()
    assert not [
        pid for pid in folder.glob("*.pid") if Path(f"/proc/{pid.read_text().strip()}").exists()
    ]
