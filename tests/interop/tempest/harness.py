"""A Keystone, a Transom that trusts it, and tempest pointed at both."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.environments import environment
from tests.interop.keystone.conftest import SERVICE_PASSWORD, furnish
from tests.interop.keystone.server import ADMIN_PASSWORD, Cloud, KeystoneServer
from tests.interop.metadefs.shipped import shipped_files
from tests.interop.tempest import manifest
from tests.support import postgres
from tests.support.server import Config, ServerProcess, merged
from tests.support.web import allowing
from transom.stores import DRIVERS

HERE = Path(__file__).parent
WAITING = HERE / "waiting.txt"
SKIPPED = HERE / "skipped.txt"
DIFFERS = HERE / "differs.txt"
RUN_SECONDS = 3600
REGION = "RegionOne"

_CONF = """
[DEFAULT]
log_file = {folder}/tempest.log
[oslo_concurrency]
lock_path = {folder}/locks
[auth]
use_dynamic_credentials = true
create_isolated_networks = false
admin_username = admin
admin_password = {password}
admin_project_name = admin
admin_domain_name = Default
[identity]
uri_v3 = {keystone}
auth_version = v3
region = RegionOne
default_domain_id = default
[identity-feature-enabled]
api_v2 = false
[service_available]
glance = true
cinder = false
neutron = false
nova = {nova}
swift = false
horizon = false
[enforce_scope]
glance = true
keystone = true
[image]
region = RegionOne
http_image = {source}/raw
http_qcow2_image = {source}/qcow2
image_caching_enabled = {everything}
container_formats = bare,ami,ari,aki,ovf,ova,docker,compressed
disk_formats = raw,qcow2,ami,ari,aki,vhd,vhdx,vmdk,vdi,iso,ploop
hashing_algorithm = sha512
{more}
[image-feature-enabled]
import_image = {everything}
os_glance_reserved = true
manage_locations = {locations}
http_store_enabled = {locations}
store_weight_enabled = {everything}
image_conversion = {everything}
image_format_enforcement = {formats}
do_secure_hash = {hashes}
[compute]
image_ref = {image_id}
image_ref_alt = {image_id}
[compute-feature-enabled]
snapshot = {snapshots}
"""

# Where the tests look for themselves, with one thing changed first: the address at which one of them
# serves data is this machine's own, and not the one that leads outwards.
_DISCOVER = """
import tempest.common.image

tempest.common.image.get_non_loopback_ipv4 = lambda: "127.0.0.1"

from tempest.test_discover.test_discover import load_tests
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the ways in which the same server is tried."""

    name: str
    config: Config
    everything: bool = False
    """Two replicas on one database, with all that Glance has switched on."""
    formats: bool = True
    hashes: bool = True
    nova: bool = False
    snapshots: bool = False
    locations: bool = False
    """One store takes data; images can lie on web servers besides."""
    manifest: bool = False
    """tempest has a list of images, good and bad, to try."""


ENFORCING = Setting("enforcing", {}, everything=True)
LENIENT = Setting(
    "lenient",
    {"images": {"verify_formats": False, "hash_locations": False}},
    everything=True,
    formats=False,
    hashes=False,
)
SETTINGS = (ENFORCING, LENIENT)
FORMATS = Setting("formats", {}, everything=True, nova=True, manifest=True)
COMPUTE = Setting("compute", {}, nova=True)
"""Nova is said to be there; nobody has a server."""
COMPUTE_WITH_SNAPSHOTS = Setting("compute-with-snapshots", {}, nova=True, snapshots=True)
LOCATIONS = Setting("locations", {}, locations=True)
LIMITS = Setting("limits", {"identity": {"keystone": {"use_limits": True}}}, everything=True)
"""Keystone keeps the limits of projects."""


def _everything(folder: Path) -> dict[str, Any]:
    """The configuration of a replica that has all; what they share lies in the folder."""
    shared = {
        "database": {"url": postgres.cluster().database()},
        "stores": {
            "default": "main",
            "main": {"path": str(folder / "main"), "weight": 100},
            "second": {"path": str(folder / "second"), "weight": 50},
        },
        "imports": {
            "plugins": ["image_conversion"],
            "allowed_hosts": ["127.0.0.1"],
            "allowed_ports": [],
        },
        "images": {"show_multiple_locations": True},
        "cache": {"enabled": True},
    }
    if "http" in DRIVERS:
        shared["stores"]["web"] = {"driver": "http"}
    return shared


class Deployment:
    """Keystone and Transom as an operator would have them."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder = folder
        self.setting = setting
        folder.mkdir(parents=True, exist_ok=True)
        self.keystone = KeystoneServer(folder / "keystone", threads=1).start()
        self.source = Source(folder / "source")
        cloud = Cloud(self.keystone.url)
        furnish(cloud)
        config: dict[str, Any] = {
            "identity": {
                "backend": "keystone",
                "keystone": {
                    "auth_url": self.keystone.url,
                    "username": "transom",
                    "password": SERVICE_PASSWORD,
                },
            },
        }
        if setting.everything:
            config = merged(config, _everything(folder / "shared"))
        if setting.locations:
            config = merged(config, allowing())
        config = merged(config, setting.config)
        self.server = ServerProcess(folder / "transom", config).start()
        # tempest takes it for granted that there are resource types.
        self.server.run(
            ["metadefs", "load", str(shipped_files()), "--config", str(self.server.config_path)]
        )
        self.replica: ServerProcess | None = None
        _offer(cloud, "identity", "keystone", self.keystone.url)
        image = _offer(cloud, "image", "glance", self.server.url)
        _offer(cloud, "compute", "nova", f"{self.server.url}/compute/v2.1")
        _limit(cloud, image)
        if setting.everything:
            # Replicas share what waits for its import, and each has a cache of its own.
            own = {"cache": {"path": str(folder / "replica-cache")}}
            self.replica = ServerProcess(folder / "replica", merged(config, own))
            self.replica.data = self.server.data
            self.replica.start()
            _offer(cloud, "image_remote", "glance_remote", self.replica.url)
        self.image_id = self._public_image(cloud.admin_token) if setting.nova else ""
        cloud.close()

    def _public_image(self, token: str) -> str:
        image = {"disk_format": "raw", "container_format": "bare", "visibility": "public"}
        return str(self.server.client(token).create(name="of tempest", **image)["id"])

    def stop(self) -> None:
        """End all."""
        self.source.stop()
        if self.replica is not None:
            self.replica.stop()
        self.server.stop()
        self.keystone.stop()

    def run(self, pattern: str) -> dict[str, dict[str, str]]:
        """Run the tests whose ids match the pattern; gives what became of each."""
        venv = environment("tempest", HERE / "requirements.txt") / "venv"
        work = self.folder / "tempest"
        (work / "locks").mkdir(parents=True, exist_ok=True)
        self._configure(work)
        (work / "discover").mkdir(exist_ok=True)
        (work / "discover" / "test_all.py").write_text(_DISCOVER)
        (work / ".stestr.conf").write_text(
            f"[DEFAULT]\ntest_path={work}/discover\ntop_dir={work}/discover\n"
        )
        where = {
            **os.environ,
            "TEMPEST_CONFIG_DIR": str(work),
            "TEMPEST_CONFIG": "tempest.conf",
            "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        }
        # A run with failures is no error of the harness: what failed is compared with the list.
        subprocess.run(
            [venv / "bin/stestr", "run", "--concurrency", "2", pattern],
            cwd=work,
            env=where,
            stdout=(work / "stestr.log").open("wb"),
            stderr=subprocess.STDOUT,
            timeout=RUN_SECONDS,
            check=False,
        )
        stream = subprocess.run(
            [venv / "bin/stestr", "last", "--subunit"], cwd=work, env=where, capture_output=True
        ).stdout
        told = subprocess.run(
            [venv / "bin/python", HERE / "outcomes.py"], input=stream, capture_output=True
        )
        if told.returncode:
            log = (work / "stestr.log").read_text(errors="replace")
            raise RuntimeError(f"tempest did not run:\n{log[-4000:]}\n{told.stderr.decode()}")
        found: dict[str, dict[str, str]] = json.loads(told.stdout)
        return found

    def _configure(self, work: Path) -> None:
        setting = self.setting
        more = []
        if setting.manifest:
            more.append(f"images_manifest_file = {manifest.write(work / 'images')}")
        if setting.everything:
            more.append("alternate_image_endpoint = image_remote")
        (work / "tempest.conf").write_text(
            _CONF.format(
                folder=work,
                password=ADMIN_PASSWORD,
                keystone=self.keystone.url,
                source=self.source.url,
                more="\n".join(more),
                everything=str(setting.everything).lower(),
                locations=str(setting.everything or setting.locations).lower(),
                formats=str(setting.formats).lower(),
                hashes=str(setting.hashes).lower(),
                nova=str(setting.nova).lower(),
                snapshots=str(setting.snapshots).lower(),
                image_id=self.image_id,
            )
        )


class Source:
    """A web server with images that can be imported."""

    def __init__(self, folder: Path) -> None:
        manifest.convert(manifest.disk(folder), folder / "qcow2", "qcow2")
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Its base, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _offer(cloud: Cloud, kind: str, name: str, url: str) -> str:
    """Put a service into the catalog; its id. tempest finds some services by their usual name."""
    made = cloud.call("POST", "/services", {"service": {"type": kind, "name": name}}).json()
    service_id = str(made["service"]["id"])
    for interface in ("public", "internal", "admin"):
        cloud.call(
            "POST",
            "/endpoints",
            {
                "endpoint": {
                    "service_id": service_id,
                    "interface": interface,
                    "region": REGION,
                    "url": url,
                }
            },
        )
    return service_id


def _limit(cloud: Cloud, service_id: str) -> None:
    """Register the limits of the image service, as an operator has to before use."""
    cloud.call(
        "POST",
        "/registered_limits",
        {
            "registered_limits": [
                {
                    "service_id": service_id,
                    "region_id": REGION,
                    "resource_name": name,
                    "default_limit": 1000,
                }
                for name in (
                    "image_size_total",
                    "image_stage_total",
                    "image_count_total",
                    "image_count_uploading",
                )
            ]
        },
    )


def listed(path: Path) -> dict[re.Pattern[str], str]:
    """The lines of a list: a pattern of `setting: test`, and the reason."""
    found = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, _, reason = line.partition("  ")
            assert reason.strip(), f"{path.name} gives no reason for {pattern}"
            found[re.compile(pattern.strip())] = reason.strip()
    return found


def judge(setting: Setting, outcomes: dict[str, dict[str, str]]) -> list[str]:
    """What is not as it should be: failures and skips that no list excuses, and successes of tests
    that are said to wait, or to expect something else."""
    excused = {WAITING: listed(WAITING), DIFFERS: listed(DIFFERS)}
    skipped = listed(SKIPPED)
    wrong = []
    for name, outcome in sorted(outcomes.items()):
        full = f"{setting.name}: {name}"
        lists = [
            path.name
            for path, patterns in excused.items()
            if any(pattern.search(full) for pattern in patterns)
        ]
        if outcome["status"] == "success":
            wrong += [f"{full} passes now: take it off {name}" for name in lists]
        elif outcome["status"] == "skip":
            if not lists and not any(pattern.search(full) for pattern in skipped):
                wrong.append(f"{full} was skipped\n{outcome['said'][-500:]}")
        elif not lists:
            wrong.append(f"{full}: {outcome['status']}\n{outcome['said'][-1500:]}")
    return wrong


def score(outcomes: dict[str, dict[str, str]]) -> str:
    """How many passed, failed and were skipped."""
    statuses = [outcome["status"] for outcome in outcomes.values()]
    return ", ".join(f"{statuses.count(word)} {word}" for word in ("success", "fail", "skip"))


if __name__ == "__main__":
    sys.exit("run `make tempest`, or pytest tests/interop/tempest")
