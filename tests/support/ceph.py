"""A real Ceph for tests: one node on the loopback interface, with RBD and an S3 gateway.

    node()      monitor and OSD, for RBD: `node().conf`, `node().pool()`
    gateway()   radosgw, for S3: `gateway().url`, `.tls_url`, `.authority`, `.bucket()`

Both start when they are first asked for, once in a whole run of pytest: all of its processes share
them. A *warden* of their own (`python -m tests.support.ceph FOLDER`) starts the daemons and waits until
nobody uses them any more, however the users ended; then it stops them and removes the folder. Should
the warden itself be killed, the kernel ends its daemons.

Data lies in memory, so the node is gone without a trace; what tests delete there makes room again.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from tests.support.ports import free_port

START_SECONDS = 90.0
STOP_SECONDS = 5.0
SIZE_BYTES = 4 * 1024**3
"""What the node takes at most. It is memory, and only as much of it as is stored."""

_PR_SET_PDEATHSIG = 1
_MODULES = Path("/usr/lib/python3/dist-packages")
_serial = itertools.count(1)

_CONF = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port},v1:127.0.0.1:{mon_port_v1}]
mon initial members = a
public network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
run dir = {folder}/run
log file = {folder}/log/$name.log
log to stderr = false
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
crash dir = {folder}/run
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon pg warn min per osd = 0
mon max pg per osd = 2000
paxos propose interval = 0.02
paxos min wait = 0.01
mon data avail warn = 2
mon data avail crit = 1
[mon]
mon data = {folder}/mon
mon cluster log file = {folder}/log/cluster.log
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {size_bytes}
osd client watch timeout = 10
osd class update on start = false
osd max object name len = 256
osd max object namespace len = 64
[client]
admin socket = {folder}/run/$name.$pid.asok
log file = {folder}/log/$name.$pid.log
rbd default features = 61
[client.rgw.a]
rgw data = {folder}/rgw
rgw dns name = localhost
rgw enable apis = s3
rgw enable usage log = false
rgw run sync thread = false
rgw thread pool size = 64
rgw data log num shards = 2
rgw md log max shards = 2
rgw usage max shards = 2
rgw gc max objs = 4
rgw lc max objs = 2
rgw objexp hints num shards = 2
rgw reshard num logs = 2
rgw gc obj min wait = 5
rgw gc processor period = 10
rgw gc processor max time = 10
rgw override bucket index max shards = 1
"""


@dataclass(frozen=True)
class Node:
    """A running monitor and OSD."""

    folder: Path
    fsid: str

    @property
    def conf(self) -> Path:
        """What `rbd_store_ceph_conf` names; it leads to the keyring of `client.admin`."""
        return self.folder / "ceph.conf"

    def pool(self) -> str:
        """The name of a new pool, ready for RBD images."""
        name = f"pool-{os.getpid()}-{next(_serial)}"
        self.ceph("osd", "pool", "create", name, "4")
        self.ceph("osd", "pool", "application", "enable", name, "rbd")
        return name

    def ceph(self, *arguments: str) -> str:
        """What the command `ceph` prints."""
        return _output("ceph", "-c", str(self.conf), "--connect-timeout", "20", *arguments)

    def rbd(self, *arguments: str) -> str:
        """What the command `rbd` prints."""
        return _output("rbd", "-c", str(self.conf), *arguments)


@dataclass(frozen=True)
class Gateway:
    """A running radosgw with one user. It speaks HTTP at `url` and HTTPS at `tls_url`, with a
    certificate of `authority` for 127.0.0.1 and localhost."""

    folder: Path
    name: str
    url: str
    tls_url: str
    access_key: str
    secret_key: str
    pid: int

    @property
    def authority(self) -> Path:
        """The authority that HTTPS clients have to trust (PEM)."""
        return self.folder / "authority.pem"

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> Any:
        """A plain S3 client of the user, which knows nothing of Transom."""
        from botocore.config import Config
        from botocore.session import get_session

        return get_session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name="default",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def user(self) -> tuple[str, str]:
        """Access key and secret key of a new user, who owns nothing and may read nothing of
        others."""
        return _new_user(self.folder)

    def pause(self) -> None:
        """Have it answer nothing until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)


def node() -> Node:
    """The node that all tests of this run share."""
    found = json.loads((_shared() / "node.json").read_text())
    return Node(Path(found["folder"]), found["fsid"])


def gateway() -> Gateway:
    """The gateway that all tests of this run share: neither stop nor pause it."""
    folder = _shared()
    (folder / "gateway.wanted").touch()
    return _gateway_from(_awaited(folder, "gateway.json"))


@contextlib.contextmanager
def own_gateway(**options: str) -> Iterator[Gateway]:
    """A further gateway to the same buckets, for tests that pause or kill it, or want other options
    (with underscores, as `rgw_enable_apis`); its user is new."""
    gateway()
    folder = _shared()
    process, made = _start_gateway(folder, f"own{os.getpid()}-{next(_serial)}", options)
    try:
        yield made
    finally:
        _stop(process)


def python_modules(folder: Path) -> Path | None:
    """`folder`, now with the distribution's modules `rados` and `rbd` alone: a path for PYTHONPATH or
    `sys.path`. None where they are made for another Python than this one."""
    suffixes = (sysconfig.get_config_var("EXT_SUFFIX"), ".abi3.so")
    folder.mkdir(parents=True, exist_ok=True)
    for module in ("rados", "rbd"):
        found = [_MODULES / f"{module}{suffix}" for suffix in suffixes]
        found = [each for each in found if each.exists()]
        if not found:
            return None
        link = folder / found[0].name
        if not link.is_symlink():
            link.symlink_to(found[0])
    return folder


# --- what is shared by the processes of a run -----------------------------------------------------


@functools.cache
def _shared() -> Path:
    """The folder of the run's warden, who is told that this process is there as long as it lives."""
    for program in ("ceph-mon", "ceph-osd", "radosgw", "ceph"):
        if shutil.which(program) is None:
            raise RuntimeError(
                f"{program} is missing: install the packages of tests/system-packages.txt."
            )
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"p{os.getpid()}")[:12]
    # Sockets lie in it, whose paths must be short.
    folder = Path(tempfile.gettempdir()) / f"transom-ceph-{run}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "setup").open("w") as setup:
        fcntl.flock(setup, fcntl.LOCK_EX)
        users = (folder / "users").open("w")
        # Held until the process ends; the kernel lets go of it even when it is killed.
        fcntl.flock(users, fcntl.LOCK_SH)
        _kept.append(users)
        if not (folder / "warden").exists():
            with (folder / "warden.log").open("wb") as log:
                warden = subprocess.Popen(
                    [sys.executable, "-m", "tests.support.ceph", str(folder)],
                    cwd=Path(__file__).parents[2],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            (folder / "warden").write_text(str(warden.pid))
            _kept.append(warden)
        _awaited(folder, "node.json")
    return folder


_kept: list[Any] = []


def _awaited(folder: Path, name: str) -> Path:
    """The file, as soon as the warden has written it."""
    deadline = time.monotonic() + START_SECONDS
    while not (folder / name).exists():
        if (folder / "failed").exists() or time.monotonic() > deadline:
            log = (folder / "warden.log").read_text()[-6000:]
            raise RuntimeError(f"Ceph did not start:\n{log}")
        time.sleep(0.05)
    return folder / name


def _gateway_from(file: Path) -> Gateway:
    found = json.loads(file.read_text())
    return Gateway(**{**found, "folder": Path(found["folder"])})


# --- the warden -----------------------------------------------------------------------------------


def guard(folder: Path) -> None:
    """Start the daemons, start the gateway when it is wanted, and end them when nobody is left."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "users").open("w") as users:
            _start_node(folder, running)
            while not _is_alone(users):
                wanted, made = folder / "gateway.wanted", folder / "gateway.json"
                if wanted.exists() and not made.exists():
                    process, fresh = _start_gateway(folder, "a", dies_with_parent=True)
                    running.append(process)
                    _write(made, asdict(fresh) | {"folder": str(folder)})
                time.sleep(0.1)
    except BaseException:  # noqa: BLE001 - those who wait have to hear of it
        traceback.print_exc()
        (folder / "failed").touch()
        time.sleep(1)
        with (folder / "users").open("w") as users:
            # Who waits reads the log first.
            fcntl.flock(users, fcntl.LOCK_EX)
    finally:
        for process in reversed(running):
            _stop(process)
        _end_strays(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _end_strays(folder: Path) -> None:
    """End the gateways of tests whose process was killed: they are nobody's children any more."""
    for file in (folder / "run").glob("own*.gateway"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(file.read_text())
            if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def _is_alone(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(file: Path, content: dict[str, Any]) -> None:
    """The whole file or none: others wait for it."""
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.rename(file)


def _start_node(folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
    for name in ("run", "log", "mon", "osd", "rgw"):
        (folder / name).mkdir()
    fsid = str(uuid.uuid4())
    ports = {"mon_port": free_port(), "mon_port_v1": free_port()}
    conf, keyring = folder / "ceph.conf", str(folder / "keyring")
    conf.write_text(_CONF.format(folder=folder, fsid=fsid, size_bytes=SIZE_BYTES, **ports))
    everything = [
        word for kind in ("mon", "osd", "mgr", "mds") for word in ("--cap", kind, "allow *")
    ]
    _output("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.",
            "--cap", "mon", "allow *")  # fmt: skip
    _output("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
    monmap = str(folder / "monmap")
    address = "[v2:127.0.0.1:{mon_port},v1:127.0.0.1:{mon_port_v1}]".format(**ports)
    _output("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
    _output("ceph-mon", "-c", str(conf), "--mkfs", "-i", "a", "--monmap", monmap,
            "--keyring", keyring)  # fmt: skip
    running.append(_daemon(folder, "mon", "ceph-mon", "-i", "a"))
    made = Node(folder, fsid)
    osd_id, secret = str(uuid.uuid4()), _output("ceph-authtool", "--gen-print-key").strip()
    (folder / "osd.json").write_text(json.dumps({"cephx_secret": secret}))
    # It waits until the monitor answers.
    made.ceph("osd", "new", osd_id, "-i", str(folder / "osd.json"))
    osd_keyring = str(folder / "osd" / "keyring")
    _output("ceph-authtool", "--create-keyring", osd_keyring, "-n", "osd.0", "--add-key", secret)
    _output("ceph-osd", "-c", str(conf), "-i", "0", "--mkfs", "--osd-uuid", osd_id,
            "--keyring", osd_keyring)  # fmt: skip
    running.append(_daemon(folder, "osd", "ceph-osd", "-i", "0", "--keyring", osd_keyring))
    deadline = time.monotonic() + START_SECONDS
    while json.loads(made.ceph("osd", "stat", "--format", "json"))["num_up_osds"] < 1:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the OSD does not come up:\n{_last_words(folder, 'osd')}")
        time.sleep(0.1)
    _write(folder / "node.json", {"folder": str(folder), "fsid": fsid})


def _start_gateway(
    folder: Path,
    name: str,
    options: Mapping[str, str] = MappingProxyType({}),
    *,
    dies_with_parent: bool = False,
) -> tuple[subprocess.Popen[bytes], Gateway]:
    made = Node(folder, "")
    certificate, key = folder / "gateway.pem", folder / "gateway.key"
    if not certificate.exists():
        authority, its_key = str(folder / "authority.pem"), str(folder / "authority.key")
        fresh_key = ("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2",
                     "-pkeyopt", "ec_paramgen_curve:P-256")  # fmt: skip
        _output(*fresh_key, "-subj", "/CN=an authority of the tests",
                "-keyout", its_key, "-out", authority)  # fmt: skip
        # An authority's own certificate would do for some clients, and is refused by others.
        _output(*fresh_key, "-subj", "/CN=localhost", "-CA", authority, "-CAkey", its_key,
                "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
                "-addext", "basicConstraints=critical,CA:FALSE",
                "-keyout", str(key), "-out", str(certificate))  # fmt: skip
        made.ceph("auth", "get-or-create", "client.rgw.a", "mon", "allow rw", "osd", "allow rwx",
                  "-o", str(folder / "rgw.keyring"))  # fmt: skip
    access_key, secret_key = _new_user(folder)
    port, tls_port = free_port(), free_port()
    process = _daemon(
        folder, f"rgw-{name}", "radosgw", "-n", "client.rgw.a",
        "--keyring", str(folder / "rgw.keyring"),
        f"--rgw-frontends=beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{tls_port} "
        f"ssl_certificate={certificate} ssl_private_key={key}",
        f"--pid-file={folder}/run/rgw-{name}.pid",
        *(f"--{key.replace('_', '-')}={value}" for key, value in options.items()),
        dies_with_parent=dies_with_parent,
    )  # fmt: skip
    (folder / "run" / f"{name}.gateway").write_text(str(process.pid))
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            _stop(process)
            raise RuntimeError(f"radosgw does not start:\n{_last_words(folder, f'rgw-{name}')}")
        time.sleep(0.1)
    fresh = Gateway(
        folder=folder,
        name=name,
        url=url,
        tls_url=f"https://127.0.0.1:{tls_port}",
        access_key=access_key,
        secret_key=secret_key,
        pid=process.pid,
    )
    return process, fresh


def _new_user(folder: Path) -> tuple[str, str]:
    name = f"user{uuid.uuid4().hex[:8]}"
    access_key, secret_key = uuid.uuid4().hex[:20].upper(), uuid.uuid4().hex + "/+="
    _output("radosgw-admin", "-c", str(folder / "ceph.conf"), "user", "create", f"--uid={name}",
            f"--display-name={name}", f"--access-key={access_key}",
            f"--secret-key={secret_key}")  # fmt: skip
    return access_key, secret_key


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _daemon(
    folder: Path, name: str, *command: str, dies_with_parent: bool = True
) -> subprocess.Popen[bytes]:
    with (folder / "log" / f"{name}.out").open("wb") as log:
        return subprocess.Popen(
            [command[0], "-c", str(folder / "ceph.conf"), "-f", *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if dies_with_parent else None,
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        # Nothing of it is kept, so nothing has to be put in order.
        process.kill()
        process.wait(STOP_SECONDS)


def _last_words(folder: Path, name: str) -> str:
    logs = sorted((folder / "log").glob(f"*{name.partition('-')[0]}*"))
    return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])} … failed:\n{done.stdout}{done.stderr}"[-4000:])
    return done.stdout


if __name__ == "__main__":
    guard(Path(sys.argv[1]))
