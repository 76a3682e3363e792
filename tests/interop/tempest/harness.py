"""A Keystone, a Transom that trusts it, and tempest pointed at both."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.environments import environment
from tests.interop.keystone.conftest import SERVICE_PASSWORD, furnish
from tests.interop.keystone.server import ADMIN_PASSWORD, Cloud, KeystoneServer
from tests.support.server import Config, ServerProcess, merged

HERE = Path(__file__).parent
WAITING = HERE / "waiting.txt"
RUN_SECONDS = 3600

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
http_image = {http_image}
image_path = {http_image}
container_formats = bare,ami,ari,aki,ovf,ova,docker,compressed
disk_formats = ami,ari,aki,vhd,vhdx,vmdk,raw,qcow2,vdi,iso,ploop
hashing_algorithm = sha512
[image-feature-enabled]
import_image = {imports}
os_glance_reserved = true
manage_locations = {locations}
http_store_enabled = {locations}
image_format_enforcement = {formats}
do_secure_hash = {hashes}
[compute]
image_ref = {image_id}
image_ref_alt = {image_id}
[compute-feature-enabled]
snapshot = {snapshots}
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the ways in which the same server is tried."""

    name: str
    config: Config
    formats: bool = True
    hashes: bool = True
    imports: bool = False
    locations: bool = False
    nova: bool = False
    snapshots: bool = False


ENFORCING = Setting("enforcing", {})
LENIENT = Setting(
    "lenient",
    {"images": {"verify_formats": False, "hash_locations": False}},
    formats=False,
    hashes=False,
)
SETTINGS = (ENFORCING, LENIENT)
COMPUTE = Setting("compute", {}, nova=True)
"""Nova is said to be there; nobody has a server."""
COMPUTE_WITH_SNAPSHOTS = Setting("compute-with-snapshots", {}, nova=True, snapshots=True)


class Deployment:
    """Keystone and Transom as an operator would have them."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder = folder
        self.setting = setting
        folder.mkdir(parents=True, exist_ok=True)
        self.keystone = KeystoneServer(folder / "keystone", threads=1).start()
        cloud = Cloud(self.keystone.url)
        furnish(cloud)
        own: dict[str, Any] = {
            "identity": {
                "backend": "keystone",
                "keystone": {
                    "auth_url": self.keystone.url,
                    "username": "transom",
                    "password": SERVICE_PASSWORD,
                },
            },
        }
        self.server = ServerProcess(folder / "transom", merged(own, setting.config)).start()
        _offer(cloud, "identity", self.keystone.url)
        _offer(cloud, "image", self.server.url)
        _offer(cloud, "compute", f"{self.server.url}/compute/v2.1")
        self.image_id = self._public_image(cloud.admin_token) if setting.nova else ""
        cloud.close()

    def _public_image(self, token: str) -> str:
        image = {"disk_format": "raw", "container_format": "bare", "visibility": "public"}
        return str(self.server.client(token).create(name="of tempest", **image)["id"])

    def stop(self) -> None:
        """End both."""
        self.server.stop()
        self.keystone.stop()

    def run(self, pattern: str) -> dict[str, dict[str, str]]:
        """Run the tests whose ids match the pattern; gives what became of each."""
        venv = environment("tempest", HERE / "requirements.txt") / "venv"
        work = self.folder / "tempest"
        (work / "locks").mkdir(parents=True, exist_ok=True)
        self._configure(work)
        (packages,) = venv.glob("lib/python3*/site-packages")
        (work / ".stestr.conf").write_text(
            f"[DEFAULT]\ntest_path={packages}/tempest/test_discover\ntop_dir={packages}\n"
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
        (work / "tempest.conf").write_text(
            _CONF.format(
                folder=work,
                password=ADMIN_PASSWORD,
                keystone=self.keystone.url,
                http_image=f"{self.server.url}/versions",
                imports=str(setting.imports).lower(),
                locations=str(setting.locations).lower(),
                formats=str(setting.formats).lower(),
                hashes=str(setting.hashes).lower(),
                nova=str(setting.nova).lower(),
                snapshots=str(setting.snapshots).lower(),
                image_id=self.image_id,
            )
        )


def _offer(cloud: Cloud, kind: str, url: str) -> None:
    made = cloud.call("POST", "/services", {"service": {"type": kind, "name": kind}}).json()
    for interface in ("public", "internal", "admin"):
        cloud.call(
            "POST",
            "/endpoints",
            {
                "endpoint": {
                    "service_id": made["service"]["id"],
                    "interface": interface,
                    "region": "RegionOne",
                    "url": url,
                }
            },
        )


def waiting() -> dict[str, str]:
    """Tests that wait for something that is not built yet, by pattern, with the reason."""
    found = {}
    for line in WAITING.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, _, reason = line.partition("  ")
            found[pattern.strip()] = reason.strip()
    return found


def judge(outcomes: dict[str, dict[str, str]]) -> list[str]:
    """What is not as it should be: failures that nothing excuses, and successes of tests that are
    said to wait."""
    patterns = {re.compile(pattern): reason for pattern, reason in waiting().items()}
    wrong = []
    for name, outcome in sorted(outcomes.items()):
        excused = any(pattern.search(name) for pattern in patterns)
        if outcome["status"] == "success" and excused:
            wrong.append(f"{name} passes now: take it off {WAITING.name}")
        elif outcome["status"] not in ("success", "skip") and not excused:
            wrong.append(f"{name}: {outcome['status']}\n{outcome['said'][-1500:]}")
    return wrong


def score(outcomes: dict[str, dict[str, str]]) -> str:
    """How many passed, failed and were skipped."""
    statuses = [outcome["status"] for outcome in outcomes.values()]
    return ", ".join(f"{statuses.count(word)} {word}" for word in ("success", "fail", "skip"))


if __name__ == "__main__":
    sys.exit("run `make tempest`, or pytest tests/interop/tempest")
