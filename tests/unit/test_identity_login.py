"""Logging in, and all the ways in which a token dies."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import argon2
import pytest

from tests.support.identity import PASSWORD, World, cheap_passwords, settings_in
from transom.auth.backends.local import LocalAuthenticator
from transom.auth.local import identity as rules
from transom.auth.local import manage, passwords, tokens
from transom.auth.local.identity import (
    GRACE_SECONDS,
    LocalIdentity,
    Login,
    Password,
    ProjectReference,
    Secret,
    Token,
    UserReference,
    Verdict,
)
from transom.errors import (
    CatalogUnavailable,
    IdentityRefused,
    IdentityUnavailable,
    TooManyGuesses,
    Unauthenticated,
)
from transom.model.identity import User


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passwords(monkeypatch)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A founded identity with anna, a member of the lab."""
    made = World(settings_in(tmp_path))
    await made.user("anna", "lab", "member")
    yield made
    await made.close()


async def anna(world: World) -> User:
    found = await world.accounts.user_named("anna")
    assert found is not None
    return found


# --- what a login gives -------------------------------------------------------------------------------


async def test_a_password_opens_a_project_with_the_roles_and_what_they_imply(world: World) -> None:
    verdict = await world.log_in("anna", "lab")
    user, lab = await anna(world), await world.project("lab")
    actor = verdict.actor
    assert (actor.user_id, actor.user_name, actor.user_domain_id) == (user.id, "anna", "default")
    assert (actor.project_id, actor.project_name) == (lab.id, "lab")
    assert actor.project_domain_id == "default"
    assert actor.roles == {"member", "reader"}
    assert (actor.domain_id, actor.system_scope) == (None, None)
    assert not actor.is_admin
    assert not actor.is_anonymous
    assert actor.token == verdict.token
    assert actor.expires_at == verdict.expires_at == world.clock.now + 3600
    assert [role.name for role in verdict.roles] == ["member", "reader"]
    assert verdict.methods == {"password"}


async def test_without_a_scope_a_token_has_no_project_and_no_roles(world: World) -> None:
    verdict = await world.log_in("anna")
    assert (verdict.project, verdict.actor.project_id, verdict.actor.roles) == (None, None, set())


async def test_a_login_that_names_no_scope_goes_to_the_default_project(world: World) -> None:
    user = await anna(world)
    login = Login((Password(UserReference(id=user.id), PASSWORD),))
    assert (await world.identity.log_in(login)).project is None
    lab = await world.project("lab")
    await manage.change_user(world.accounts, user, default_project_id=lab.id)
    assert (await world.identity.log_in(login)).project == lab
    # Where the user is nobody, there is no scope, as in Keystone.
    other = await world.project("other")
    await manage.change_user(world.accounts, user, default_project_id=other.id)
    assert (await world.identity.log_in(login)).project is None


async def test_a_token_turns_into_one_for_another_project_but_not_into_a_longer_life(
    world: World,
) -> None:
    await world.give(await anna(world), "attic", "reader")
    first = await world.log_in("anna", "lab")
    world.clock.go(600)
    login = Login((Token(first.token),), ProjectReference(name="attic"))
    second = await world.identity.log_in(login)
    assert second.actor.roles == {"reader"}
    assert second.expires_at == first.expires_at
    assert second.issued_at == first.issued_at + 600
    assert second.methods == {"token", "password"}
    assert (second.parent_audit_id, second.audit_id != first.audit_id) == (first.audit_id, True)


async def test_an_application_credential_opens_its_project_with_its_roles(world: World) -> None:
    first = await world.log_in("anna", "lab")
    reader = tuple(role for role in first.roles if role.name == "reader")
    credential, secret = await world.credential(first, "ci", roles=reader)
    by_id = await world.log_in_with(credential, secret)
    assert by_id.actor.roles == {"reader"}
    assert by_id.actor.project_name == "lab"
    assert by_id.methods == {"application_credential"}
    proof = Secret(None, "ci", UserReference(name="anna"), secret)
    by_name = await world.identity.log_in(Login((proof,)))
    assert by_name.credential == credential


async def test_a_token_of_a_credential_ends_with_the_credential(world: World) -> None:
    end = dt.datetime.fromtimestamp(world.clock.now + 100, dt.UTC)
    credential, secret = await world.credential(
        await world.log_in("anna", "lab"), "ci", expires_at=end
    )
    assert (await world.log_in_with(credential, secret)).expires_at == world.clock.now + 100
    world.clock.go(100)
    with pytest.raises(Unauthenticated):
        await world.log_in_with(credential, secret)


# --- what a login refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "proof",
    [
        Password(UserReference(name="anna"), "wrong"),
        Password(UserReference(name="anna"), ""),
        Password(UserReference(name="nobody"), PASSWORD),
        Password(UserReference(name="ANNA"), PASSWORD),
        Password(UserReference(id="0" * 32), PASSWORD),
        Password(UserReference(), PASSWORD),
        Token("nonsense"),
        Secret("0" * 32, None, UserReference(), PASSWORD),
        Secret(None, "ci", UserReference(name="anna"), PASSWORD),
        Secret(None, "ci", UserReference(name="nobody"), PASSWORD),
        Secret(None, None, UserReference(), PASSWORD),
    ],
    ids=repr,
)
async def test_a_proof_that_does_not_fit_is_refused(world: World, proof: Any) -> None:
    with pytest.raises(Unauthenticated):
        await world.identity.log_in(Login((proof,), ProjectReference(name="lab")))


@pytest.mark.parametrize(
    "scope",
    [
        ProjectReference(name="nowhere"),
        ProjectReference(id="0" * 32),
        ProjectReference(),
        ProjectReference(name="admin"),
    ],
    ids=["unknown name", "unknown id", "other domain", "no role there"],
)
async def test_a_scope_that_does_not_fit_is_refused_without_telling_why(
    world: World, scope: ProjectReference
) -> None:
    login = Login((Password(UserReference(name="anna"), PASSWORD),), scope)
    with pytest.raises(Unauthenticated, match=f"^{rules.REFUSED}$"):
        await world.identity.log_in(login)


async def test_two_proofs_must_be_of_the_same_user(world: World) -> None:
    await world.user("otto", "lab", "member")
    token = Token((await world.log_in("anna", "lab")).token)
    await world.identity.log_in(Login((Password(UserReference(name="anna"), PASSWORD), token)))
    with pytest.raises(Unauthenticated):
        await world.identity.log_in(Login((Password(UserReference(name="otto"), PASSWORD), token)))


async def test_a_login_without_proof_is_refused(world: World) -> None:
    with pytest.raises(Unauthenticated):
        await world.identity.log_in(Login((), ProjectReference(name="lab")))


async def test_a_credential_makes_no_tokens_of_other_scopes(world: World) -> None:
    credential, secret = await world.credential(await world.log_in("anna", "lab"), "ci")
    proof = Secret(credential.id, None, UserReference(), secret)
    with pytest.raises(Unauthenticated, match="cannot request a scope"):
        await world.identity.log_in(Login((proof,), ProjectReference(name="lab")))
    token = (await world.log_in_with(credential, secret)).token
    with pytest.raises(IdentityRefused):
        await world.identity.log_in(Login((Token(token),), ProjectReference(name="lab")))


async def test_a_user_without_password_cannot_log_in(world: World) -> None:
    await manage.create_user(world.accounts, "robot", None)
    for password in ("", "None", PASSWORD):
        with pytest.raises(Unauthenticated):
            await world.log_in("robot", password=password)


async def test_refusals_never_tell_users_from_nobody(world: World) -> None:
    told = set()
    for name in ("anna", "nobody"):
        with pytest.raises(Unauthenticated) as refused:
            await world.log_in(name, "lab", "wrong")
        told.add(str(refused.value))
    assert told == {rules.REFUSED}


# --- guessing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["anna", "nobody"])
async def test_guessing_has_to_wait_and_a_right_password_too(world: World, name: str) -> None:
    for _ in range(6):
        with pytest.raises(Unauthenticated, match=rules.REFUSED):
            await world.log_in(name, "lab", "wrong", "192.0.2.1")
    with pytest.raises(TooManyGuesses):
        await world.log_in(name, "lab", PASSWORD, "192.0.2.1")
    if name == "anna":
        await world.log_in(name, "lab", PASSWORD, "192.0.2.2")
        world.clock.go(31)


async def test_guesses_in_parallel_are_slowed_as_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def counting(_password: str, _hashed: str | None) -> bool:
        nonlocal tried
        tried += 1
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr(passwords, "fits", counting)
    await asyncio.gather(
        *(world.log_in("anna", "lab", f"guess {n}", "192.0.2.1") for n in range(200)),
        return_exceptions=True,
    )
    # Five for nothing, one that starts the wait, one beside it.
    assert tried <= 7


async def test_many_good_logins_at_once_all_pass(world: World) -> None:
    found = await asyncio.gather(*(world.log_in("anna", "lab") for _ in range(20)))
    assert len({verdict.token for verdict in found}) == 20


async def test_secrets_of_credentials_are_guarded_too(world: World) -> None:
    credential, secret = await world.credential(await world.log_in("anna", "lab"), "ci")
    for _ in range(6):
        with pytest.raises(Unauthenticated):
            await world.log_in_with(credential, "wrong")
    with pytest.raises(TooManyGuesses):
        await world.log_in_with(credential, secret)


async def test_a_dated_hash_is_renewed_at_login_and_no_token_dies_of_it(world: World) -> None:
    user = await anna(world)
    old = argon2.PasswordHasher(2, 16, 1).hash(PASSWORD)
    await world.accounts.change_user(user.id, password_hash=old)
    token = (await world.log_in("anna", "lab")).token
    renewed = (await anna(world)).password_hash
    assert renewed is not None
    assert renewed.split("$")[3] == passwords.hash_now("any").split("$")[3] != old.split("$")[3]
    assert (await world.log_in("anna", "lab")).user.password_hash == renewed
    await world.identity.verdict(token)


# --- death of a token -----------------------------------------------------------------------------------

Blow = Callable[[World], Awaitable[Any]]


async def _disable_user(world: World) -> None:
    await manage.change_user(world.accounts, await anna(world), is_enabled=False)


async def _blink_user(world: World) -> None:
    user = await anna(world)
    user = await manage.change_user(world.accounts, user, is_enabled=False)
    await manage.change_user(world.accounts, user, is_enabled=True)


async def _delete_user(world: World) -> None:
    await world.accounts.remove_user((await anna(world)).id)


async def _change_password(world: World) -> None:
    await manage.change_user(world.accounts, await anna(world), "another password")


async def _same_password(world: World) -> None:
    await manage.change_user(world.accounts, await anna(world), PASSWORD)


async def _disable_project(world: World) -> None:
    await manage.change_project(world.accounts, await world.project("lab"), is_enabled=False)


async def _blink_project(world: World) -> None:
    lab = await manage.change_project(world.accounts, await world.project("lab"), is_enabled=False)
    await manage.change_project(world.accounts, lab, is_enabled=True)


async def _delete_project(world: World) -> None:
    await world.accounts.remove_project((await world.project("lab")).id)


async def _take_role(world: World) -> None:
    await world.take(await anna(world), "lab", "member")


async def _blink_role(world: World) -> None:
    await world.take(await anna(world), "lab", "member")
    await world.give(await anna(world), "lab", "member")


async def _delete_role(world: World) -> None:
    await world.accounts.remove_role((await manage.role_of(world.accounts, "member")).id)


async def _new_keys(world: World) -> None:
    await world.accounts.replace_keys(b"k" * 32, manage.now())


BLOWS: dict[str, Blow] = {
    "user disabled": _disable_user,
    "user disabled and enabled again": _blink_user,
    "user deleted": _delete_user,
    "password changed": _change_password,
    "password set to the same again": _same_password,
    "project disabled": _disable_project,
    "project disabled and enabled again": _blink_project,
    "project deleted": _delete_project,
    "role removed": _take_role,
    "role removed and given again": _blink_role,
    "role deleted": _delete_role,
    "all keys replaced": _new_keys,
}


@pytest.mark.parametrize("blow", BLOWS.values(), ids=BLOWS)
@pytest.mark.parametrize("kind", ["password", "credential"])
async def test_a_token_dies_at_once_where_it_happens_and_within_a_second_elsewhere(
    world: World, blow: Blow, kind: str
) -> None:
    verdict = await world.log_in("anna", "lab")
    if kind == "credential":
        verdict = await world.log_in_with(*await world.credential(verdict, "ci"))
    elsewhere = world.neighbour()
    assert (await elsewhere.verdict(verdict.token)).actor == verdict.actor
    await blow(world)
    await world.identity.changed()
    assert world.identity.verdict_now(verdict.token) is None
    with pytest.raises(Unauthenticated):
        await world.identity.verdict(verdict.token)
    world.clock.go(1.001)
    assert elsewhere.verdict_now(verdict.token) is None
    with pytest.raises(Unauthenticated):
        await elsewhere.verdict(verdict.token)
    await elsewhere.close()


@pytest.mark.parametrize("blow", BLOWS.values(), ids=BLOWS)
async def test_tokens_of_others_live_on(world: World, blow: Blow) -> None:
    await world.user("otto", "attic", "reader")
    others = await world.log_in("otto", "attic")
    await blow(world)
    await world.identity.changed()
    if blow is _new_keys:
        with pytest.raises(Unauthenticated):
            await world.identity.verdict(others.token)
    else:
        assert (await world.identity.verdict(others.token)).actor == others.actor


async def test_a_revoked_token_is_dead_and_the_user_s_other_tokens_are_not(world: World) -> None:
    first, second = await world.log_in("anna", "lab"), await world.log_in("anna", "lab")
    elsewhere = world.neighbour()
    await elsewhere.verdict(first.token)
    await world.identity.revoke(first)
    with pytest.raises(Unauthenticated, match="revoked"):
        await world.identity.verdict(first.token)
    world.clock.go(1.001)
    with pytest.raises(Unauthenticated, match="revoked"):
        await elsewhere.verdict(first.token)
    await world.identity.verdict(second.token)
    with pytest.raises(Unauthenticated):
        await world.identity.log_in(Login((Token(first.token),)))
    await elsewhere.close()


async def test_a_deleted_credential_takes_its_tokens_along(world: World) -> None:
    first = await world.log_in("anna", "lab")
    credential, secret = await world.credential(first, "ci")
    token = (await world.log_in_with(credential, secret)).token
    await world.accounts.remove_credential(credential.id)
    await world.identity.changed()
    with pytest.raises(Unauthenticated, match="gone"):
        await world.identity.verdict(token)
    await world.identity.verdict(first.token)


async def test_a_token_ends_when_its_time_is_over(world: World) -> None:
    verdict = await world.log_in("anna", "lab")
    world.clock.go(3599)
    await world.identity.verdict(verdict.token)
    assert world.identity.verdict_now(verdict.token) is not None
    world.clock.go(1)
    assert world.identity.verdict_now(verdict.token) is None
    with pytest.raises(Unauthenticated, match="expired"):
        await world.identity.verdict(verdict.token)


async def test_a_role_that_is_given_later_counts_from_then_on(world: World) -> None:
    verdict = await world.log_in("anna", "lab")
    await world.give(await anna(world), "lab", "admin")
    await world.identity.changed()
    assert "admin" in (await world.identity.verdict(verdict.token)).actor.roles


async def test_a_credential_gains_nothing_from_later_roles(world: World) -> None:
    credential, secret = await world.credential(await world.log_in("anna", "lab"), "ci")
    token = (await world.log_in_with(credential, secret)).token
    await world.give(await anna(world), "lab", "admin")
    await world.identity.changed()
    assert (await world.identity.verdict(token)).actor.roles == {"member", "reader"}


async def test_a_token_of_a_key_that_was_replaced_lives_to_its_end(world: World) -> None:
    old = await world.log_in("anna", "lab")
    now = manage.now()
    await world.accounts.add_key(b"n" * 32, now, drop_before=now - dt.timedelta(hours=1))
    await world.identity.changed()
    new = await world.log_in("anna", "lab")
    assert (await world.identity.verdict(old.token)).actor == old.actor
    assert old.token[:15] != new.token[:15], "the number of the key leads every token"


async def test_a_key_made_elsewhere_is_known_here_at_once(world: World) -> None:
    elsewhere = world.neighbour()
    await elsewhere.verdict((await world.log_in("anna", "lab")).token)
    now = manage.now()
    await world.accounts.add_key(b"n" * 32, now, drop_before=now)
    await world.identity.changed()
    fresh = await world.log_in("anna", "lab")
    world.clock.go(0.06)
    assert (await elsewhere.verdict(fresh.token)).actor == fresh.actor
    await elsewhere.close()


# --- the memory of verdicts -----------------------------------------------------------------------------


class Counting:
    """Accounts that count the questions and can fail."""

    def __init__(self, accounts: Any) -> None:
        self.accounts = accounts
        self.questions: list[str] = []
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.accounts, name)

        async def asked(*args: Any, **kwargs: Any) -> Any:
            self.questions.append(name)
            if self.is_away:
                raise CatalogUnavailable
            return await method(*args, **kwargs)

        return asked


@pytest.fixture
async def counted(world: World) -> AsyncIterator[tuple[LocalIdentity, Counting]]:
    """Another process on the same database, whose questions are counted."""
    accounts = Counting(world.accounts)
    made = LocalIdentity(accounts, 3600, clock=world.clock, ticks=world.clock)
    yield made, accounts
    accounts.is_away = False
    await made.close()


async def test_a_known_token_costs_no_question(
    world: World, counted: tuple[LocalIdentity, Counting]
) -> None:
    identity, accounts = counted
    token = (await world.log_in("anna", "lab")).token
    await identity.verdict(token)
    accounts.questions.clear()
    for _ in range(100):
        assert identity.verdict_now(token) is not None
        await identity.verdict(token)
    assert accounts.questions == []


async def test_under_steady_traffic_the_revision_is_read_in_the_background(
    world: World, counted: tuple[LocalIdentity, Counting]
) -> None:
    identity, accounts = counted
    token = (await world.log_in("anna", "lab")).token
    await identity.verdict(token)
    accounts.questions.clear()
    for _ in range(40):
        world.clock.go(0.1)
        assert identity.verdict_now(token) is not None, "nobody ever has to wait"
        await asyncio.sleep(0.02)
    assert set(accounts.questions) == {"revision"}
    assert 4 <= len(accounts.questions) <= 8


async def test_after_a_pause_one_question_serves_all_that_come_together(
    world: World, counted: tuple[LocalIdentity, Counting]
) -> None:
    identity, accounts = counted
    token = (await world.log_in("anna", "lab")).token
    await identity.verdict(token)
    accounts.questions.clear()
    world.clock.go(60)
    assert identity.verdict_now(token) is None
    await asyncio.gather(*(identity.verdict(token) for _ in range(50)))
    assert accounts.questions == ["revision"]


async def test_a_verdict_is_not_believed_longer_than_a_second_while_the_database_is_away(
    world: World, counted: tuple[LocalIdentity, Counting]
) -> None:
    identity, accounts = counted
    authenticator = LocalAuthenticator(identity)
    token = (await world.log_in("anna", "lab")).token
    await authenticator.authenticate(token)
    accounts.is_away = True
    world.clock.go(0.9)
    assert authenticator.authenticate_now(token) is not None
    await asyncio.sleep(0.01)
    world.clock.go(0.2)
    assert authenticator.authenticate_now(token) is None
    with pytest.raises(IdentityUnavailable):
        await authenticator.authenticate(token)
    accounts.is_away = False
    await authenticator.authenticate(token)


async def test_an_answer_that_was_overtaken_does_not_bring_the_dead_back(world: World) -> None:
    verdict = await world.log_in("anna", "lab")
    slow = asyncio.Event()
    begun = asyncio.Event()

    class Overtaken(Counting):
        async def revision(self) -> int:
            found: int = await self.accounts.revision()
            begun.set()
            await slow.wait()
            return found

    accounts = Overtaken(world.accounts)
    identity = LocalIdentity(accounts, 3600, clock=world.clock, ticks=world.clock)
    slow.set()
    await identity.verdict(verdict.token)
    slow.clear()
    begun.clear()
    world.clock.go(0.6)
    assert identity.verdict_now(verdict.token) is not None
    await begun.wait()  # The background has read the old number and is slow to tell.
    await world.accounts.revoke(verdict.audit_id, manage.now() + dt.timedelta(9000), manage.now())
    world.clock.go(0.1)
    late = asyncio.create_task(identity.changed())
    await asyncio.sleep(0)
    slow.set()
    await late
    await asyncio.sleep(0.05)
    assert identity.verdict_now(verdict.token) is None
    await identity.close()


async def test_memory_is_bounded_and_keeps_what_is_in_use(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "_VERDICTS_MAX", 3)
    kept = await world.log_in("anna", "lab")
    made: list[Verdict] = []
    for _ in range(5):
        made.append(await world.log_in("anna"))
        assert world.identity.verdict_now(kept.token) is not None
    assert [world.identity.verdict_now(each.token) is not None for each in made] == [
        False, False, False, True, True,
    ]  # fmt: skip


async def test_unknown_keys_do_not_let_strangers_ask_the_database_all_day(
    world: World, counted: tuple[LocalIdentity, Counting]
) -> None:
    identity, accounts = counted
    verdict = await world.log_in("anna", "lab")
    await identity.verdict(verdict.token)
    accounts.questions.clear()
    claims = tokens.Claims(b"a" * 16, b"u" * 16, 0, 0, 2**40, 1)
    for number in range(100, 200):
        with pytest.raises(Unauthenticated):
            await identity.verdict(tokens.seal(claims, number, bytes(32)))
    assert len(accounts.questions) <= 2


# --- the authenticator ------------------------------------------------------------------------------------


async def test_beside_a_service_an_expired_token_passes_for_two_days(world: World) -> None:
    await world.user("nova", "service", "service")
    await world.user("otto", "lab", "admin")
    authenticator = LocalAuthenticator(world.identity)
    token = (await world.log_in("anna", "lab")).token
    world.clock.go(3600 + 60)
    service = (await world.log_in("nova", "service")).token
    other = (await world.log_in("otto", "lab")).token
    actor = await authenticator.authenticate(token, service)
    assert actor.user_name == "anna"
    assert actor.service_roles == {"service"}
    assert authenticator.authenticate_now(token, service) == actor
    for beside in (None, "", "nonsense", token, other):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(token, beside)
        assert authenticator.authenticate_now(token, beside) is None
    world.clock.go(GRACE_SECONDS)
    service = (await world.log_in("nova", "service")).token
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(token, service)


async def test_a_revoked_token_passes_beside_no_service(world: World) -> None:
    await world.user("nova", "service", "service")
    authenticator = LocalAuthenticator(world.identity)
    verdict = await world.log_in("anna", "lab")
    await world.identity.revoke(verdict)
    world.clock.go(3700)
    service = (await world.log_in("nova", "service")).token
    with pytest.raises(Unauthenticated, match="revoked"):
        await authenticator.authenticate(verdict.token, service)


async def test_nothing_secret_is_shown_by_accident(world: World) -> None:
    verdict = await world.log_in("anna", "lab")
    shown = repr([verdict, verdict.actor, verdict.user, Token("t0ken"), Secret("i", None, UserReference(), "s3cret"),
                  Password(UserReference(name="anna"), "passw0rd"), Login((Token("t0ken"),))])  # fmt: skip
    assert verdict.token not in shown
    for secret in ("t0ken", "s3cret", "passw0rd", "argon2"):
        assert secret not in shown
