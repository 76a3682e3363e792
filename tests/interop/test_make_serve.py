"""A newcomer: `git clone`, `make serve`, three lines to paste, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.interop.clients import commands
from tests.support.ports import free_port

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]
FIRST_START_SECONDS = 150.0
SECOND_START_SECONDS = 30.0
STOP_SECONDS = 20.0


@dataclass
class Serving:
    """A `make serve` at a prompt of its own: what it printed, and how to press Ctrl-C."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def text(self) -> str:
        """Everything printed so far."""
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout_seconds: float) -> None:
        """Wait until a line matches."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if any(re.search(pattern, line) for line in list(self.lines)):
                return
            assert self.process.poll() is None, f"it ended:\n{self.text()}"
            time.sleep(0.1)
        raise AssertionError(f"no line like {pattern!r} came, but:\n{self.text()}")

    def _end(self) -> int:
        status = self.process.wait(STOP_SECONDS)
        self.reader.join(STOP_SECONDS)
        return status

    def press_ctrl_c(self) -> int:
        """SIGINT to the whole foreground group, as a terminal does; gives make's exit status.

        Make ends itself by the signal it got once the service has ended, so its status says nothing
        about the service.
        """
        os.killpg(self.process.pid, signal.SIGINT)
        return self._end()

    def interrupt_service(self) -> int:
        """SIGINT to the service alone; gives make's exit status, which tells the service's."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        (service,) = listed.split()
        os.kill(int(service), signal.SIGINT)
        return self._end()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `git clone` gives of the last commit."""
    target = tmp_path_factory.mktemp("newcomer") / "transom"
    subprocess.run(
        ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(target)],
        check=True,
        timeout=60,
    )
    return target


@pytest.fixture(scope="module")
def port() -> int:
    """The port that the newcomer chooses, the same for both starts."""
    return free_port()


def start(clone: Path, port: int, home: Path) -> Serving:
    """`make serve` in the clone, in a shell that knows nothing of this test run."""
    environment = commands.environment(
        home,
        PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        # Packages that an earlier run fetched may be used again.
        PIP_CACHE_DIR=os.environ.get(
            "PIP_CACHE_DIR", str(Path("~").expanduser() / ".cache" / "pip")
        ),
    )
    environment.pop("VIRTUAL_ENV", None)
    environment.pop("VENV", None)
    environment.pop("MAKEFLAGS", None)
    return Serving(
        subprocess.Popen(
            ["make", "serve", f"ARGS=--bind 127.0.0.1:{port}"],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    )


@pytest.fixture(scope="module")
def first(clone: Path, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The first start, serving; ended after the tests if they did not end it."""
    serving = start(clone, port, tmp_path_factory.mktemp("newcomer-home"))
    try:
        serving.wait_for(r"openstack .*image list", FIRST_START_SECONDS)
        serving.wait_for(r"serving", SECOND_START_SECONDS)
        yield serving
    finally:
        if serving.process.poll() is None:
            os.killpg(serving.process.pid, signal.SIGKILL)
            serving.process.wait(STOP_SECONDS)


def pasted(serving: Serving) -> list[str]:
    """The lines to paste, as they were printed."""
    marks = ("export ", "pip install ", "openstack ", "python3 -m pip")
    return [line.strip() for line in serving.lines if line.strip().startswith(marks)]


def paste(clone: Path, lines: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    """Type the lines into a shell in the clone, one after the other, ending at the first failure.

    `openstack` is on the newcomer's path: it is the one that the tests have installed.
    """
    tools = home / "bin"
    tools.mkdir(exist_ok=True)
    for program in ("openstack", "pip", "python3"):
        link = tools / program
        if not link.exists():
            link.symlink_to(commands.installed(program))
    environment = commands.environment(home, PATH=f"{tools}:/usr/bin:/bin")
    return subprocess.run(
        ["bash", "-e"],
        input="\n".join([*lines, ""]),
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_three_printed_lines_lead_to_a_list_of_images(
    clone: Path, first: Serving, tmp_path: Path
) -> None:
    lines = pasted(first)
    assert len(lines) == 3, first.text()

    done = paste(clone, [*lines, "openstack --os-cloud transom image list"], tmp_path)

    assert done.returncode == 0, f"{lines}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr


def test_image_goes_up_and_comes_down_with_what_was_printed(
    clone: Path, first: Serving, tmp_path: Path
) -> None:
    image = clone / "LICENSE"

    done = paste(
        clone,
        [
            *pasted(first)[:2],
            f"openstack --os-cloud transom image create --file {image} first",
            f"openstack --os-cloud transom image save --file {tmp_path}/copy first",
        ],
        tmp_path,
    )

    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()


def test_data_folder_is_private_and_clouds_yaml_more_so(clone: Path, first: Serving) -> None:
    (written,) = clone.glob("**/clouds.yaml")

    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(written.parent.stat().st_mode) & 0o007 == 0
    password = yaml.safe_load(written.read_text())["clouds"]["transom"]["auth"]["password"]
    assert password not in first.text()


def test_ctrl_c_ends_it_cleanly_and_a_second_start_reuses_everything(
    clone: Path, first: Serving, port: int, tmp_path: Path
) -> None:
    (written,) = clone.glob("**/clouds.yaml")
    before = (written.read_bytes(), written.stat().st_mtime_ns)
    lines = pasted(first)

    assert first.press_ctrl_c() in (0, -signal.SIGINT), first.text()
    assert not re.search(r"Traceback|Error|\*\*\*", first.text()), first.text()
    assert "stopped" in first.lines[-1]

    second = start(clone, port, tmp_path)
    try:
        second.wait_for(r"serving", SECOND_START_SECONDS)
        assert (written.read_bytes(), written.stat().st_mtime_ns) == before
        done = paste(clone, [*lines[:2], lines[2] + " -f value -c Name"], tmp_path)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        assert done.stdout.split() == ["first"]
        assert "Installing" not in second.text()
        assert second.interrupt_service() == 0, second.text()
    finally:
        if second.process.poll() is None:
            os.killpg(second.process.pid, signal.SIGKILL)
            second.process.wait(STOP_SECONDS)
