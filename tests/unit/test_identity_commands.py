"""`transom user|project|role|token`, on a data folder, beside whatever else runs there."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.identity import World, cheap_passwords, settings_in
from transom.auth.local.identity import LocalIdentity, Login, Password, UserReference, Verdict
from transom.auth.local.identity import ProjectReference as Scope
from transom.catalog import Catalog
from transom.cli.main import main
from transom.errors import Unauthenticated
from transom.settings import Settings


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passwords(monkeypatch)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a founded identity, which the commands find by environment variables."""
    found = settings_in(tmp_path)
    World(found).catalog.close()
    monkeypatch.setenv("TRANSOM_DATABASE__URL", found.database.url)
    monkeypatch.setenv("TRANSOM_DATA", str(tmp_path))
    return found


Run = Callable[..., Any]


@pytest.fixture
def run(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must succeed and gives what it prints as JSON."""

    def running(*arguments: str) -> Any:
        assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return running


@pytest.fixture
def refuse(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail with one line and gives that line."""

    def refused(*arguments: str) -> str:
        assert main(list(arguments)) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("transom: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return refused


def log_in(settings: Settings, name: str, password: str, project: str) -> Verdict:
    """What a running service makes of a login."""

    async def asked() -> Verdict:
        catalog = Catalog.open(settings)
        identity = LocalIdentity(catalog.identity, 3600)
        try:
            proof = Password(UserReference(name=name), password)
            return await identity.log_in(Login((proof,), Scope(name=project)))
        finally:
            await identity.close()
            catalog.close()

    return asyncio.run(asked())


def test_a_user_made_by_the_command_logs_in(run: Run, settings: Settings) -> None:
    run("project", "create", "lab", "--description", "the laboratory")
    made = run("user", "create", "anna", "--project", "lab", "--role", "reader")
    assert (made["name"], made["project"], made["role"]) == ("anna", "lab", "reader")
    assert len(made["password"]) == 22
    verdict = log_in(settings, "anna", made["password"], "lab")
    assert verdict.actor.roles == {"reader"}
    assert verdict.user.default_project_id == verdict.actor.project_id


def test_a_password_that_was_given_is_taken_and_not_printed(run: Run, settings: Settings) -> None:
    made = run("user", "create", "anna", "--password", "s3cret", "--project", "demo")
    assert "password" not in made
    assert made["role"] == "member"
    log_in(settings, "anna", "s3cret", "demo")


def test_a_password_can_come_through_standard_input(
    run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe\nrest\n"))
    run("user", "create", "anna", "--password", "-", "--project", "demo")
    log_in(settings, "anna", "from a pipe", "demo")


def test_a_new_password_ends_the_old_one_and_reaches_clouds_yaml(
    run: Run, settings: Settings
) -> None:
    path = settings.data_path / "clouds.yaml"
    old = yaml.safe_load(path.read_text())["clouds"]["transom-demo"]["auth"]["password"]
    log_in(settings, "demo", old, "demo")
    told = run("user", "password", "demo")
    assert told["written_to"] == str(path)
    with pytest.raises(Unauthenticated):
        log_in(settings, "demo", old, "demo")
    log_in(settings, "demo", told["password"], "demo")
    new = yaml.safe_load(path.read_text())["clouds"]["transom-demo"]["auth"]["password"]
    assert new == told["password"]


def test_a_lost_clouds_yaml_comes_back_with_a_new_password(run: Run, settings: Settings) -> None:
    path = settings.data_path / "clouds.yaml"
    path.unlink()
    told = run("user", "password", "admin")
    auth = yaml.safe_load(path.read_text())["clouds"]["transom"]["auth"]
    assert (auth["username"], auth["password"]) == ("admin", told["password"])
    log_in(settings, "admin", auth["password"], auth["project_name"])


def test_switching_off_and_on(run: Run, settings: Settings) -> None:
    run("user", "create", "anna", "--password", "pw", "--project", "demo")
    assert run("user", "set", "anna", "--disable")["enabled"] is False
    with pytest.raises(Unauthenticated):
        log_in(settings, "anna", "pw", "demo")
    assert run("user", "set", "anna", "--enable")["enabled"] is True
    log_in(settings, "anna", "pw", "demo")
    run("project", "set", "demo", "--disable")
    with pytest.raises(Unauthenticated):
        log_in(settings, "anna", "pw", "demo")
    run("project", "set", "demo", "--enable")
    log_in(settings, "anna", "pw", "demo")
    run("user", "create", "otto", "--password", "pw", "--project", "demo", "--disable")
    with pytest.raises(Unauthenticated):
        log_in(settings, "otto", "pw", "demo")


def test_roles_are_given_and_taken(run: Run, settings: Settings) -> None:
    run("project", "create", "lab")
    run("user", "create", "anna", "--password", "pw")
    run("role", "create", "onlooker")
    run("role", "add", "--user", "anna", "--project", "lab", "onlooker")
    run("role", "add", "--user", "anna", "--project", "lab", "member")
    assert log_in(settings, "anna", "pw", "lab").actor.roles == {"onlooker", "member", "reader"}
    assert run("role", "assignments", "--user", "anna", "--project", "lab") == [
        {"user": "anna", "project": "lab", "role": "onlooker"},
        {"user": "anna", "project": "lab", "role": "member"},
    ]
    assert run("user", "show", "anna")["roles"] == ["onlooker in lab", "member in lab"]
    assert run("project", "show", "lab")["roles"] == ["anna is onlooker", "anna is member"]
    run("role", "remove", "--user", "anna", "--project", "lab", "member")
    run("role", "delete", "onlooker")
    assert run("role", "assignments", "--user", "anna") == []
    with pytest.raises(Unauthenticated):
        log_in(settings, "anna", "pw", "lab")


def test_lists_hold_everything(run: Run) -> None:
    assert [each["name"] for each in run("user", "list")] == ["admin", "demo"]
    assert [each["name"] for each in run("project", "list")] == ["admin", "demo"]
    roles = {each["name"]: each["implies"] for each in run("role", "list")}
    assert roles == {
        "admin": ["manager", "member", "reader"],
        "manager": ["member", "reader"],
        "member": ["reader"],
        "reader": [],
        "service": [],
    }
    assert len(run("role", "assignments")) == 2


def test_names_and_texts_change(run: Run) -> None:
    changed = run("user", "set", "demo", "--name", "guest", "--email", "g@example.org")
    assert (changed["name"], changed["email"]) == ("guest", "g@example.org")
    changed = run("project", "set", "demo", "--name", "yard", "--description", "behind")
    assert (changed["name"], changed["description"]) == ("yard", "behind")
    assert run("user", "show", changed_id(run, "user", "guest"))["name"] == "guest"


def changed_id(run: Run, kind: str, name: str) -> str:
    """The id of what has this name."""
    return next(str(each["id"]) for each in run(kind, "list") if each["name"] == name)


def test_deleting_takes_several_at_once(run: Run) -> None:
    for name in ("anna", "otto"):
        run("user", "create", name)
        run("project", "create", name)
    assert [each["name"] for each in run("user", "delete", "anna", "otto")] == ["anna", "otto"]
    assert [each["name"] for each in run("project", "delete", "otto", "anna")] == ["otto", "anna"]
    assert len(run("user", "list")) == len(run("project", "list")) == 2


def test_keys_are_rotated_and_replaced(run: Run, settings: Settings) -> None:
    def known(token: str) -> bool:
        async def asked() -> bool:
            catalog = Catalog.open(settings)
            identity = LocalIdentity(catalog.identity, 3600)
            try:
                await identity.verdict(token)
            except Unauthenticated:
                return False
            finally:
                await identity.close()
                catalog.close()
            return True

        return asyncio.run(asked())

    run("user", "create", "anna", "--password", "pw", "--project", "demo")
    first = log_in(settings, "anna", "pw", "demo").token
    assert run("token", "rotate-key") == {"key": 2, "keys_kept": 2}
    second = log_in(settings, "anna", "pw", "demo").token
    assert known(first)
    assert known(second)
    assert run("token", "revoke-all") == {"key": 3, "keys_kept": 1}
    assert not known(first)
    assert not known(second)
    assert known(log_in(settings, "anna", "pw", "demo").token)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("user", "show", "nobody"), "Could not find user: nobody"),
        (("user", "create", "demo"), "user named 'demo'"),
        (("user", "create", "x", "--role", "member"), "--project"),
        (("user", "create", "x", "--project", "nowhere"), "Could not find project: nowhere"),
        (("user", "create", "x", "--project", "demo", "--role", "r"), "Could not find role: r"),
        (("user", "create", ""), "name"),
        (("user", "create", "x", "--password", ""), "password"),
        (("user", "set", "demo"), "nothing to change"),
        (("user", "delete", "demo", "nobody"), "Could not find user: nobody"),
        (("project", "create", "x" * 65), "64"),
        (("project", "set", "demo"), "nothing to change"),
        (("project", "delete", "nowhere"), "Could not find project: nowhere"),
        (("role", "delete", "member"), "built in"),
        (("role", "add", "--user", "demo", "--project", "demo", "r"), "Could not find role: r"),
        (
            ("role", "remove", "--user", "demo", "--project", "demo", "admin"),
            "demo is not admin in demo",
        ),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_in_one_line_and_changes_nothing(
    refuse: Callable[..., str], run: Run, arguments: tuple[str, ...], words: str
) -> None:
    before = [run(kind, "list") for kind in ("user", "project", "role")]
    assert words in refuse(*arguments)
    assert [run(kind, "list") for kind in ("user", "project", "role")] == before


def test_tables_are_for_people(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["role", "assignments"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "USER   PROJECT  ROLE",
        "admin  admin    admin",
        "demo   demo     member",
    ]
    assert main(["project", "show", "demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "name         demo" in lines
    assert "enabled      yes" in lines
    assert "roles        demo is member" in lines


def test_where_nothing_is_yet_the_way_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRANSOM_DATABASE__URL", raising=False)
    missing = tmp_path / "missing"
    assert main(["user", "list", "--data", str(missing)]) == 1
    assert "There is no data folder" in capsys.readouterr().err
    assert not missing.exists()
    assert main(["user", "list", "--data", str(tmp_path)]) == 1
    assert "transom serve" in capsys.readouterr().err
    catalog = Catalog.open(settings_in(tmp_path, database__url=f"sqlite:///{tmp_path}/transom.db"))
    catalog.upgrade()
    catalog.close()
    assert main(["project", "create", "x", "--data", str(tmp_path)]) == 1
    assert "transom serve" in capsys.readouterr().err


def test_accounts_of_a_keystone_are_looked_after_there(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSOM_IDENTITY__BACKEND", "keystone")
    monkeypatch.setenv("TRANSOM_IDENTITY__KEYSTONE__AUTH_URL", "http://keystone/v3")
    monkeypatch.setenv("TRANSOM_IDENTITY__KEYSTONE__USERNAME", "transom")
    monkeypatch.setenv("TRANSOM_IDENTITY__KEYSTONE__PASSWORD", "x")
    assert main(["user", "list"]) == 1
    assert "identity.backend = 'keystone'" in capsys.readouterr().err
