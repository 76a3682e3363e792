"""The how-to "Replace Glance in an existing cloud", followed literally with the openstack client."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.keystone.server import ADMIN_PASSWORD, Cloud, KeystoneServer
from tests.support.server import ServerProcess

pytestmark = pytest.mark.interop

HOWTO = Path(__file__).parents[3] / "docs/howto/replace-glance.md"
PASSWORD = "password out of the how-to"
TOML_KEYS = ("username", "project_name", "user_domain_name", "project_domain_name")


def commands() -> list[str]:
    """The shell blocks of the how-to, in order."""
    return re.findall(r"```bash\n(.*?)```", HOWTO.read_text(), re.DOTALL)


def test_an_existing_cloud_moves_to_transom(tmp_path: Path) -> None:
    keystone = KeystoneServer(tmp_path / "keystone").start()
    cloud = Cloud(keystone.url)
    text = HOWTO.read_text()
    named = {key: re.search(rf'^{key} = "(.+)"$', text, re.MULTILINE) for key in TOML_KEYS}
    transom = ServerProcess(
        tmp_path / "transom",
        {
            "identity": {
                "backend": "keystone",
                "keystone": {
                    "auth_url": keystone.url,
                    "password": PASSWORD,
                    **{key: found[1] for key, found in named.items() if found},
                },
            }
        },
    )
    try:
        # The cloud has a catalog, and a Glance in it which is about to go.
        for kind, url in (("identity", keystone.url), ("image", "http://127.0.0.1:9/glance")):
            service = cloud.call("POST", "/services", {"service": {"type": kind, "name": kind}})
            for interface in ("public", "internal", "admin"):
                cloud.call(
                    "POST",
                    "/endpoints",
                    {
                        "endpoint": {
                            "service_id": service.json()["service"]["id"],
                            "interface": interface,
                            "region": "RegionOne",
                            "url": url,
                        }
                    },
                )
        transom.start()
        where = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OS_AUTH_URL": keystone.url,
            "OS_USERNAME": "admin",
            "OS_PASSWORD": ADMIN_PASSWORD,
            "OS_PROJECT_NAME": "admin",
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_REGION_NAME": "RegionOne",
            "OS_IDENTITY_API_VERSION": "3",
            "TRANSOM_PASSWORD": PASSWORD,
            "TRANSOM_URL": transom.url,
            "HOME": str(tmp_path),
        }
        assert len(commands()) == 4, "the how-to has blocks that this test does not know"
        for block in commands():
            done = subprocess.run(
                ["bash", "-euc", block], env=where, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        picture = tmp_path / "picture"
        picture.write_bytes(b"bytes" * 100_000)
        tail = (
            f"openstack image create --disk-format raw --container-format bare --file {picture} "
            "moved -f value -c status && openstack image list -f value -c Name"
        )
        done = subprocess.run(
            ["bash", "-euc", tail], env=where, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert "active" in done.stdout
        assert "moved" in done.stdout
        # The limits of Keystone, as the how-to registered them.
        assert "use_limits = true" in text
        transom.restart({"identity": {"keystone": {"use_limits": True}}})
        usage = transom.client(cloud.admin_token).get("/v2/info/usage").json()["usage"]
        assert usage["image_count_total"] == {"limit": 10000, "usage": 1}
        assert usage["image_size_total"] == {"limit": 1048576, "usage": 0}
    finally:
        transom.stop()
        cloud.close()
        keystone.stop()
