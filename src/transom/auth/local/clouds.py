"""`clouds.yaml` in the data folder: what clients need to log in, for the first users."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import tempfile
from pathlib import Path

from transom.model.identity import DOMAIN_NAME, REGION
from transom.settings import Settings, host_and_port

CLOUDS_OF = {"admin": "transom", "demo": "transom-demo"}
"""The cloud in the file for each of the first users, whose project has the user's name."""

_WROTE = "# auth_url as Transom wrote it: "
_HEAD = """\
# How to log in to this Transom, for every OpenStack client. Written at the first start; keep it
# secret, it holds passwords. Change it as you like: a later start only replaces the auth_url below
# where it is still the one that Transom wrote, and only when the service's address has changed.
{wrote}{auth_url}
clouds:
"""
_CLOUD = """\
  {cloud}:
    auth:
      auth_url: {auth_url}
      username: {user}
      password: {password}
      project_name: {project}
      user_domain_name: {domain}
      project_domain_name: {domain}
    region_name: {region}
    identity_api_version: 3
"""


def path_of(settings: Settings) -> Path:
    """Where the file is."""
    return settings.data_path / "clouds.yaml"


def auth_url_of(settings: Settings) -> str:
    """The URL under which clients on this machine, or behind `public_url`, reach the identity."""
    if settings.server.public_url:
        return f"{settings.server.public_url.rstrip('/')}/v3"
    host, port = host_and_port(settings.server.bind)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - told, not bound
    scheme = "https" if settings.server.tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/v3"


def write(path: Path, auth_url: str, clouds: dict[str, tuple[str, str, str]]) -> None:
    """Write the file, mode 0600, whole or not at all. `clouds`: name → user, password, project. A
    file that is there already is kept beside it as `clouds.yaml.old`."""
    text = _HEAD.format(wrote=_WROTE, auth_url=auth_url)
    for cloud, (user, password, project) in clouds.items():
        text += _CLOUD.format(
            cloud=cloud,
            auth_url=auth_url,
            user=user,
            password=_scalar(password),
            project=project,
            domain=DOMAIN_NAME,
            region=REGION,
        )
    with contextlib.suppress(FileNotFoundError):
        path.replace(path.with_name(f"{path.name}.old"))
    _put(path, text)


def follow(path: Path, auth_url: str) -> None:
    """Replace the auth_url that Transom wrote, where it still stands, by the present one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        # No file, or not ours: nothing to follow.
        return
    wrote = re.search(rf"^{re.escape(_WROTE)}(\S+)$", text, re.MULTILINE)
    if wrote is None or wrote[1] == auth_url:
        return
    old = re.escape(wrote[1])
    text = re.sub(
        rf"^(\s*auth_url:\s*){old}(\s*)$", rf"\g<1>{auth_url}\g<2>", text, flags=re.MULTILINE
    )
    _put(path, text.replace(f"{_WROTE}{wrote[1]}", f"{_WROTE}{auth_url}", 1))


def set_password(path: Path, auth_url: str, user: str, password: str) -> bool:
    """Put a user's new password into the file where it names the user as Transom wrote it; make a
    file for one of the first users when there is none. False when nothing was there to change."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        cloud = CLOUDS_OF.get(user)
        if cloud is None or not path.parent.is_dir():
            return False
        write(path, auth_url, {cloud: (user, password, user)})
        return True
    except (OSError, UnicodeDecodeError):
        return False
    login = rf"^(\s*username:\s*{re.escape(user)}\s*\n\s*password:[ \t]*).*$"
    if _WROTE not in text or re.search(login, text, re.MULTILINE) is None:
        return False
    value = _scalar(password)
    _put(path, re.sub(login, lambda found: found[1] + value, text, flags=re.MULTILINE))
    return True


def lines(path: Path) -> list[str]:
    """What to paste into a shell."""
    return [
        f"export OS_CLIENT_CONFIG_FILE={shlex.quote(str(path))}",
        "export OS_CLOUD=transom",
        "openstack image list",
    ]


def _scalar(text: str) -> str:
    # JSON text is YAML text: quotes keep any password from meaning something else.
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9]{12,}", text) else json.dumps(text)


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes it 0600 from the first moment.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
