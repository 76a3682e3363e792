"""A real Barbican: installed from the package index, in an environment and a process of its own."""

from __future__ import annotations

import base64
import subprocess
import time
from pathlib import Path
from typing import Self

import httpx

from tests.interop.environments import environment
from tests.interop.keystone.conftest import SERVICE_PASSWORD
from tests.interop.keystone.server import free_port

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
START_SECONDS = 90.0

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


class BarbicanServer:
    """One running Barbican that trusts a Keystone, with a database of its own."""

    def __init__(self, folder: Path, keystone_url: str) -> None:
        """Prepare it below `folder`."""
        made = environment("barbican", REQUIREMENTS)
        self.port = free_port()
        self._folder = folder
        self._uwsgi = made / "venv/bin/uwsgi"
        self._process: subprocess.Popen[bytes] | None = None
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

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it answers."""
        with (self._folder / "uwsgi.log").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    str(self._uwsgi),
                    *("--http-socket", f"127.0.0.1:{self.port}", "--need-app", "--lazy-apps"),
                    *("--pythonpath", str(self._folder), "--module", "serve_barbican:application"),
                    *("--buffer-size", "65535", "--add-header", "Connection: close"),
                ],
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env={"HOME": str(self._folder), "PATH": "/usr/bin:/bin"},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if httpx.get(self.url, timeout=5, trust_env=False).status_code < 500:
                    return self
            except httpx.HTTPError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "uwsgi.log").read_text(errors="replace")
                self.stop()
                raise RuntimeError(f"Barbican did not start:\n{log[-4000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
