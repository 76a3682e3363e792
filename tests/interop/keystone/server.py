"""A real Keystone: installed from the package index, in an environment and a process of its own.

The first use installs it and prepares a database and keys below `.cache`, which takes a minute;
every server then starts from a copy of these within a few seconds. Nothing here imports Transom.
"""

from __future__ import annotations

import fcntl
import getpass
import grp
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from tests.interop.environments import environment
from tests.interop.uwsgi import UwsgiServer

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
ADMIN_PASSWORD = "admin password of the tests"

_CONF = """
[DEFAULT]
log_file = {folder}/keystone.log
use_stderr = false
[database]
connection = sqlite:///{folder}/keystone.db?timeout=60
[token]
provider = {provider}
expiration = {expiration}
allow_expired_window = 172800
[fernet_tokens]
key_repository = {folder}/fernet
[fernet_receipts]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credential
[jwt_tokens]
jws_public_key_repository = {folder}/jws/public
jws_private_key_repository = {folder}/jws/private
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = oslo_cache.dict
[oslo_policy]
enforce_scope = true
enforce_new_defaults = true
"""


def prepared() -> Path:
    """A folder with Keystone in `venv` and a fresh deployment in `template`; made on first use."""
    folder = environment("keystone", REQUIREMENTS)
    with (folder / "lock").open("w") as lock:
        # Test processes that run side by side share the work.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "prepared").exists():
            _prepare(folder)
            (folder / "prepared").touch()
    return folder


def _prepare(folder: Path) -> None:
    """A database with the bootstrap's users and roles, and keys of every kind."""
    template = folder / "template"
    shutil.rmtree(template, ignore_errors=True)
    for name in ("fernet", "credential", "jws/public", "jws/private"):
        (template / name).mkdir(parents=True, mode=0o700)
    _write_conf(template, provider="fernet", expiration=3600)
    manage = [
        str(folder / "venv/bin/keystone-manage"),
        "--config-file",
        f"{template}/keystone.conf",
    ]
    owner = [
        "--keystone-user",
        getpass.getuser(),
        "--keystone-group",
        grp.getgrgid(os.getgid()).gr_name,
    ]
    _run([*manage, "db_sync"])
    _run([*manage, "fernet_setup", *owner])
    _run([*manage, "credential_setup", *owner])
    _run([*manage, "create_jws_keypair", *owner], cwd=template)
    (template / "public.pem").rename(template / "jws/public/public.pem")
    (template / "private.pem").rename(template / "jws/private/private.pem")
    _run([*manage, "bootstrap", "--bootstrap-password", ADMIN_PASSWORD])
    with sqlite3.connect(template / "keystone.db") as database:
        database.execute("pragma journal_mode = wal")
    database.close()


def _write_conf(folder: Path, *, provider: str, expiration: int) -> None:
    (folder / "keystone.conf").write_text(
        _CONF.format(folder=folder, provider=provider, expiration=expiration)
    )


def _run(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


class KeystoneServer(UwsgiServer):
    """One running Keystone with a database of its own."""

    def __init__(
        self, folder: Path, *, provider: str = "fernet", expiration: int = 3600, threads: int = 4
    ) -> None:
        """With more than one thread uWSGI drops a connection now and then; clients that do not try
        again, tempest among them, need a Keystone with one."""
        made = prepared()
        shutil.copytree(made / "template", folder, dirs_exist_ok=True)
        self._provider = provider
        # Without its cache a Keystone works a second on every call; one process keeps the cache true.
        options = [
            *("--module", "keystone.wsgi.api:application", "--processes", "1"),
            *("--threads", str(threads), "--disable-logging", "--socket-timeout", "120"),
            *("--env", f"OS_KEYSTONE_CONFIG_FILES={folder}/keystone.conf"),
        ]
        super().__init__(folder, made / "venv", options, base="/v3")
        self.configure(expiration=expiration)

    def configure(self, *, expiration: int) -> None:
        """Choose the life of tokens in seconds, for the next start."""
        _write_conf(self._folder, provider=self._provider, expiration=expiration)


class Cloud:
    """The administrator's hands: users, projects, roles and tokens of a running Keystone."""

    def __init__(self, url: str) -> None:
        self.url = url
        # uWSGI closes connections without saying so: take a new one for every call.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=url, timeout=60, limits=limits, trust_env=False)
        self.admin_token = self.token("admin", ADMIN_PASSWORD, project="admin")
        self.roles = {
            role["name"]: role["id"] for role in self.call("GET", "/roles").json()["roles"]
        }

    def close(self) -> None:
        """Free connections."""
        self._http.close()

    def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> httpx.Response:
        """One call that must succeed, as the administrator unless another token is given."""
        answer = self._http.request(
            method,
            path,
            json=body,
            headers={"x-auth-token": token or self.admin_token, **headers},
        )
        if answer.status_code >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    def token(
        self,
        user: str,
        password: str,
        *,
        project: str | None = None,
        domain: str | None = None,
        system: bool = False,
        trust: str | None = None,
    ) -> str:
        """Log in by user name and password; without any scope the token is unscoped."""
        scope: Any = "unscoped"
        if project:
            scope = {"project": {"name": project, "domain": {"id": "default"}}}
        elif domain:
            scope = {"domain": {"id": domain}}
        elif system:
            scope = {"system": {"all": True}}
        elif trust:
            scope = {"OS-TRUST:trust": {"id": trust}}
        identity = {
            "methods": ["password"],
            "password": {"user": {"name": user, "domain": {"id": "default"}, "password": password}},
        }
        return self._log_in({"identity": identity, "scope": scope})

    def application_token(self, credential: dict[str, Any]) -> str:
        """Log in by an application credential."""
        identity = {
            "methods": ["application_credential"],
            "application_credential": {"id": credential["id"], "secret": credential["secret"]},
        }
        return self._log_in({"identity": identity})

    def _log_in(self, auth: dict[str, Any]) -> str:
        answer = self._http.post("/auth/tokens", json={"auth": auth})
        if answer.status_code != 201:
            raise RuntimeError(f"login: {answer.status_code} {answer.text}")
        return answer.headers["x-subject-token"]

    def project(self, name: str) -> str:
        """Create a project; its id."""
        made = self.call("POST", "/projects", {"project": {"name": name, "domain_id": "default"}})
        return str(made.json()["project"]["id"])

    def user(
        self, name: str, password: str, *, project: str | None = None, roles: Iterable[str] = ()
    ) -> str:
        """Create a user with roles in a project; its id."""
        made = self.call(
            "POST",
            "/users",
            {"user": {"name": name, "password": password, "domain_id": "default"}},
        )
        user_id = str(made.json()["user"]["id"])
        for role in roles:
            self.call("PUT", f"/projects/{project}/users/{user_id}/roles/{self.roles[role]}")
        return user_id

    def revoke(self, token: str) -> None:
        """End a token, and see that it has ended: a call that looks at it in the same moment may put
        it back into Keystone's cache."""
        self.call("DELETE", "/auth/tokens", **{"x-subject-token": token})
        headers = {"x-auth-token": self.admin_token, "x-subject-token": token}
        for _ in range(20):
            if self._http.head("/auth/tokens", headers=headers).status_code == 404:
                return
            time.sleep(0.1)
            self._http.delete("/auth/tokens", headers=headers)
        raise RuntimeError("Keystone goes on taking a token that it has revoked")
