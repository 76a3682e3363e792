"""A real Barbican: installed from the package index, in an environment and a process of its own."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

from tests.interop.environments import environment
from tests.interop.keystone.conftest import SERVICE_PASSWORD
from tests.interop.uwsgi import UwsgiServer

REQUIREMENTS = Path(__file__).with_name("requirements.txt")

_CONF = """
[DEFAULT]
host_href = {url}
log_file = {folder}/barbican.log
[database]
connection = sqlite:///{folder}/barbican.db
[crypto]
enabled_crypto_plugins = simple_crypto
[simple_crypto_plugin]
kek = {kek}
[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
username = transom
password = {password}
project_name = service
user_domain_id = default
project_domain_id = default
"""
_PASTE = """
[composite:main]
use = egg:Paste#urlmap
/: versions
/v1: api
[pipeline:versions]
pipeline = request_id microversion versionapp
[pipeline:api]
pipeline = request_id authtoken context microversion apiapp
[app:apiapp]
paste.app_factory = barbican.api.app:create_main_app
[app:versionapp]
paste.app_factory = barbican.api.app:create_version_app
[filter:context]
paste.filter_factory = barbican.api.middleware.context:ContextMiddleware.factory
[filter:microversion]
paste.filter_factory = barbican.api.middleware.microversion:MicroversionMiddleware.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
[filter:request_id]
paste.filter_factory = oslo_middleware.request_id:RequestId.factory
"""


class BarbicanServer(UwsgiServer):
    """One running Barbican that trusts a Keystone, with a database of its own."""

    def __init__(self, folder: Path, keystone_url: str) -> None:
        """Prepare it below `folder`."""
        made = environment("barbican", REQUIREMENTS)
        application = ("--pythonpath", str(folder), "--module", "serve_barbican:application")
        super().__init__(folder, made / "venv", application)
        (folder / ".barbican").mkdir(parents=True)
        (folder / ".barbican" / "barbican.conf").write_text(
            _CONF.format(
                url=self.url,
                folder=folder,
                kek=base64.b64encode(b"k" * 32).decode(),
                keystone=keystone_url,
                password=SERVICE_PASSWORD,
            )
        )
        (folder / "paste.ini").write_text(_PASTE)
        (folder / "serve_barbican.py").write_text(
            "from paste.deploy import loadapp\n"
            f"application = loadapp('config:{folder}/paste.ini', name='main')\n"
        )
        manage = [
            str(made / "venv/bin/barbican-manage"),
            *("db", "upgrade", "--db-url", f"sqlite:///{folder}/barbican.db"),
        ]
        done = subprocess.run(
            manage,
            env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"barbican-manage failed:\n{done.stdout}\n{done.stderr[-4000:]}")
