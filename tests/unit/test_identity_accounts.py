"""What the catalog remembers of the local identity, and what it never lets happen."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.identity import World, cheap_passwords, settings_in
from transom.auth.local import manage
from transom.auth.local.bootstrap import bootstrap
from transom.catalog import Catalog
from transom.errors import ConfigurationError, IdentityNotFound, NameTaken
from transom.model.identity import Role, User

NOW = dt.datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=dt.UTC)
NOBODY = "0" * 32


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passwords(monkeypatch)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A founded identity."""
    made = World(settings_in(tmp_path))
    yield made
    await made.close()


async def test_a_user_comes_back_as_it_was_stored(world: World) -> None:
    user = User(
        id=manage.new_id(),
        name="Zoë 🔑",
        is_enabled=False,
        password_hash="$argon2id$x",
        epoch=4,
        default_project_id=NOBODY,
        description="d",
        email="z@example.org",
        created_at=NOW,
    )
    await world.accounts.add_user(user)
    assert await world.accounts.user(user.id) == user
    assert await world.accounts.user_named("Zoë 🔑") == user
    assert await world.accounts.users("Zoë 🔑") == (user,)
    assert "argon2" not in repr(user)


async def test_names_are_compared_to_the_letter(world: World) -> None:
    await world.user("anna")
    await world.user("Anna")
    assert await world.accounts.user_named("ANNA") is None
    assert [user.name for user in await world.accounts.users()] == ["Anna", "admin", "anna", "demo"]


async def test_a_name_is_taken_once(world: World) -> None:
    user = await world.user("anna", "lab", "member")
    with pytest.raises(NameTaken, match="user named 'anna'"):
        await world.user("anna")
    with pytest.raises(NameTaken, match="project named 'lab'"):
        await manage.create_project(world.accounts, "lab")
    with pytest.raises(NameTaken, match="role named 'admin'"):
        await manage.create_role(world.accounts, "admin")
    with pytest.raises(NameTaken, match="user named 'demo'"):
        await manage.change_user(world.accounts, user, name="demo")
    verdict = await world.log_in("anna", "lab")
    await world.credential(verdict, "ci")
    with pytest.raises(NameTaken, match="application credential named 'ci'"):
        await world.credential(verdict, "ci")
    other = await world.user("otto", "lab", "member")
    assert other.name == "otto"
    await world.credential(await world.log_in("otto", "lab"), "ci")


Change = Callable[[World, User], Awaitable[Any]]

CHANGES: dict[str, Change] = {
    "add_user": lambda w, _: w.user("fresh"),
    "change_user": lambda w, u: w.accounts.change_user(u.id, description="x"),
    "remove_user": lambda w, u: w.accounts.remove_user(u.id),
    "add_project": lambda w, _: w.project("fresh"),
    "change_project": lambda w, _: _change_lab(w),
    "remove_project": lambda w, _: _remove_lab(w),
    "add_role": lambda w, _: manage.create_role(w.accounts, "fresh"),
    "remove_role": lambda w, _: _remove_role(w),
    "grant": lambda w, u: w.give(u, "lab", "reader"),
    "withdraw": lambda w, u: w.take(u, "lab", "member"),
    "add_credential": lambda w, _: _add_credential(w, "fresh"),
    "remove_credential": lambda w, u: _remove_credential(w, u),
    "revoke": lambda w, _: w.accounts.revoke(b"a" * 16, NOW, NOW),
    "add_key": lambda w, _: w.accounts.add_key(bytes(32), NOW, drop_before=NOW),
    "replace_keys": lambda w, _: w.accounts.replace_keys(bytes(32), NOW),
}


async def _change_lab(world: World) -> None:
    await world.accounts.change_project((await world.project("lab")).id, description="x")


async def _remove_lab(world: World) -> None:
    await world.accounts.remove_project((await world.project("lab")).id)


async def _remove_role(world: World) -> None:
    await world.accounts.remove_role((await manage.role_of(world.accounts, "service")).id)


async def _add_credential(world: World, name: str) -> None:
    await world.credential(await world.log_in("anna", "lab"), name)


async def _remove_credential(world: World, user: User) -> None:
    (credential,) = await world.accounts.credentials_of(user.id)
    await world.accounts.remove_credential(credential.id)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_every_change_adds_to_the_revision(world: World, change: Change) -> None:
    user = await world.user("anna", "lab", "member")
    await _add_credential(world, "ci")
    before = await world.accounts.revision()
    await change(world, user)
    assert await world.accounts.revision() > before


async def test_questions_leave_the_revision_alone(world: World) -> None:
    user = await world.user("anna", "lab", "member")
    before = await world.accounts.revision()
    await world.accounts.standing(user.id)
    await world.accounts.basics()
    await world.accounts.users()
    await world.log_in("anna", "lab")
    assert await world.accounts.revision() == before


async def test_the_number_of_a_grant_is_never_given_again(world: World) -> None:
    user = await world.user("anna", "lab", "member")
    (first,) = await world.accounts.grants(user.id)
    await world.take(user, "lab", "member")
    await world.give(user, "lab", "member")
    (second,) = await world.accounts.grants(user.id)
    assert second.id > first.id


async def test_a_role_given_twice_is_held_once(world: World) -> None:
    user = await world.user("anna", "lab", "member")
    before = await world.accounts.grants(user.id)
    await world.give(user, "lab", "member")
    assert await world.accounts.grants(user.id) == before


async def test_what_is_not_there_cannot_be_changed_granted_or_removed(world: World) -> None:
    user = await world.user("anna", "lab", "member")
    (grant,) = await world.accounts.grants(user.id)
    for attempt in (
        lambda: world.accounts.change_user(NOBODY, description="x"),
        lambda: world.accounts.change_project(NOBODY, description="x"),
        lambda: world.accounts.remove_user(NOBODY),
        lambda: world.accounts.remove_project(NOBODY),
        lambda: world.accounts.remove_role(NOBODY),
        lambda: world.accounts.remove_credential(NOBODY),
        lambda: world.accounts.grant(NOBODY, grant.project_id, grant.role.id),
        lambda: world.accounts.grant(user.id, NOBODY, grant.role.id),
        lambda: world.accounts.grant(user.id, grant.project_id, NOBODY),
        lambda: world.accounts.withdraw(user.id, grant.project_id, NOBODY),
    ):
        with pytest.raises(IdentityNotFound, match="Could not find"):
            await attempt()


async def test_with_a_user_go_its_grants_and_credentials(world: World) -> None:
    user = await world.user("anna", "lab", "member")
    credential, _ = await world.credential(await world.log_in("anna", "lab"), "ci")
    await world.accounts.remove_user(user.id)
    assert await world.accounts.grants(user.id) == ()
    assert await world.accounts.credential(credential.id) is None


async def test_with_a_project_go_its_grants_and_credentials(world: World) -> None:
    user = await world.user("anna", "lab", "member")
    credential, _ = await world.credential(await world.log_in("anna", "lab"), "ci")
    await _remove_lab(world)
    assert await world.accounts.grants(user.id) == ()
    assert await world.accounts.credential(credential.id) is None
    assert await world.accounts.user(user.id) is not None


async def test_with_a_role_go_the_credentials_that_may_stand_on_it(world: World) -> None:
    user = await world.user("anna", "lab", "member", "reader")
    await world.give(user, "other", "member")
    here, _ = await world.credential(await world.log_in("anna", "lab"), "here")
    there, _ = await world.credential(await world.log_in("anna", "other"), "there")
    await world.take(user, "lab", "reader")
    assert await world.accounts.credential(here.id) is None
    assert await world.accounts.credential(there.id) == there


async def test_a_credential_comes_back_as_it_was_stored(world: World) -> None:
    user = await world.user("anna", "lab", "member")
    made, secret = await world.credential(
        await world.log_in("anna", "lab"),
        "ci",
        description="for the builds",
        expires_at=NOW + dt.timedelta(days=9000),
        is_unrestricted=True,
    )
    assert await world.accounts.credential(made.id) == made
    assert await world.accounts.credentials_of(user.id) == (made,)
    assert await world.accounts.credentials_of(user.id, "ci") == (made,)
    assert await world.accounts.credentials_of(user.id, "CI") == ()
    assert secret not in repr(made)
    assert made.secret_hash not in repr(made)


async def test_revocations_are_kept_while_they_matter_and_no_longer(world: World) -> None:
    user = await world.user("anna")
    second = dt.timedelta(seconds=1)

    async def is_revoked(audit_id: bytes) -> bool:
        return (await world.accounts.standing(user.id, audit_id=audit_id)).is_revoked

    await world.accounts.revoke(b"1" * 16, NOW + 10 * second, NOW)
    await world.accounts.revoke(b"1" * 16, NOW + 10 * second, NOW)
    assert await is_revoked(b"1" * 16)
    assert not await is_revoked(b"2" * 16)
    await world.accounts.revoke(b"2" * 16, NOW + 30 * second, NOW + 10 * second)
    assert await is_revoked(b"1" * 16), "not before its end has passed"
    await world.accounts.revoke(b"3" * 16, NOW + 30 * second, NOW + 11 * second)
    assert not await is_revoked(b"1" * 16)
    assert await is_revoked(b"2" * 16)


async def test_a_key_stays_until_its_last_token_has_ended(world: World) -> None:
    hour = dt.timedelta(hours=1)
    (first,) = (await world.accounts.basics()).keys
    start = first.created_at
    second = await world.accounts.add_key(b"2" * 32, start + hour, drop_before=start - hour)
    third = await world.accounts.add_key(b"3" * 32, start + 2 * hour, drop_before=start)
    assert [key.id for key in (await world.accounts.basics()).keys] == [third, second, first.id]
    # The first was replaced after one hour, the second after two.
    moment = start + 3 * hour
    fourth = await world.accounts.add_key(b"4" * 32, moment, drop_before=start + 1.5 * hour)
    assert [key.id for key in (await world.accounts.basics()).keys] == [fourth, third, second]
    last = await world.accounts.replace_keys(b"5" * 32, moment)
    (only,) = (await world.accounts.basics()).keys
    assert (only.id, only.secret) == (last, b"5" * 32)
    assert last > fourth
    assert "5" * 32 not in repr(only)


async def test_nothing_can_be_changed_before_the_first_start(tmp_path: Path) -> None:
    catalog = Catalog.open(settings_in(tmp_path))
    catalog.upgrade()
    try:
        assert not catalog.identity.is_founded_now()
        with pytest.raises(ConfigurationError, match="transom serve"):
            catalog.engine.write_now(
                lambda connection: __import__("transom.catalog.identity", fromlist=["_bump"])._bump(
                    connection
                )
            )
    finally:
        catalog.close()


def test_processes_that_start_at_once_found_one_identity(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first = Catalog.open(settings)
    first.upgrade()
    catalogs = [first, *(Catalog.open(settings) for _ in range(5))]
    ready = threading.Barrier(len(catalogs))
    told: list[list[str]] = []

    def start(catalog: Catalog) -> None:
        ready.wait()
        told.append(bootstrap(settings, catalog.identity))

    threads = [threading.Thread(target=start, args=(catalog,)) for catalog in catalogs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for catalog in catalogs:
        catalog.close()
    assert len(told) == 6
    assert sum("First start" in lines[0] for lines in told) == 1
    assert not (tmp_path / "clouds.yaml.old").exists(), "only the one that founds writes"


def test_a_first_start_that_cannot_write_the_passwords_stores_nothing(tmp_path: Path) -> None:
    catalog = Catalog.open(settings_in(tmp_path))
    catalog.upgrade()

    def full_disk() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        catalog.identity.found_now(
            founded_at=NOW,
            key_secret=bytes(32),
            new_roles=[Role(id=NOBODY, name="admin")],
            new_projects=[],
            new_users=[],
            new_grants=[],
            before_commit=full_disk,
        )
    assert not catalog.identity.is_founded_now()
    catalog.close()
