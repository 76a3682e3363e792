"""What a real Keystone vouches for, and what it does not."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import LogCapture

from tests.interop.keystone.conftest import Opened, furnish
from tests.interop.keystone.server import Cloud, KeystoneServer
from transom.errors import IdentityUnavailable, Unauthenticated

pytestmark = pytest.mark.interop

SHORT_SECONDS = 5
"""Life of the tokens of the Keystone whose tokens end soon."""


class Someone:
    """A user of its own project, made for one test."""

    def __init__(self, cloud: Cloud, *roles: str) -> None:
        self.name = f"user-{uuid.uuid4().hex[:8]}"
        self.password = "a password"
        self.project = f"project-{uuid.uuid4().hex[:8]}"
        self.project_id = cloud.project(self.project)
        self.id = cloud.user(
            self.name, self.password, project=self.project_id, roles=roles or ("member",)
        )
        self._cloud = cloud

    def token(self) -> str:
        return self._cloud.token(self.name, self.password, project=self.project)


# --- scopes ---


async def test_a_project_token_tells_user_project_and_roles(
    any_cloud: Cloud, opened: Opened
) -> None:
    someone = Someone(any_cloud)
    token = someone.token()

    actor = await opened(any_cloud.url).authenticate(token)

    assert (actor.user_id, actor.user_name) == (someone.id, someone.name)
    assert (actor.project_id, actor.project_name) == (someone.project_id, someone.project)
    assert actor.user_domain_id == actor.project_domain_id == "default"
    # Keystone's own implication: member brings reader.
    assert actor.roles == {"member", "reader"}
    assert actor.domain_id is None
    assert actor.system_scope is None
    assert actor.token == token
    assert actor.expires_at is not None
    assert 3500 < actor.expires_at - time.time() < 3700
    assert not actor.is_admin


async def test_a_domain_token_has_a_domain_and_no_project(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    someone = Someone(cloud)
    cloud.call("PUT", f"/domains/default/users/{someone.id}/roles/{cloud.roles['admin']}")
    token = cloud.token(someone.name, someone.password, domain="default")

    actor = await opened(keystone.url).authenticate(token)

    assert (actor.domain_id, actor.project_id, actor.system_scope) == ("default", None, None)
    assert "admin" in actor.roles


async def test_a_system_token_has_the_system_and_no_project(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    someone = Someone(cloud)
    cloud.call("PUT", f"/system/users/{someone.id}/roles/{cloud.roles['reader']}")
    token = cloud.token(someone.name, someone.password, system=True)

    actor = await opened(keystone.url).authenticate(token)

    assert (actor.system_scope, actor.project_id, actor.domain_id) == ("all", None, None)
    assert actor.roles == {"reader"}


async def test_an_unscoped_token_has_neither_scope_nor_roles(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    someone = Someone(cloud)
    token = cloud.token(someone.name, someone.password)

    actor = await opened(keystone.url).authenticate(token)

    assert actor.user_id == someone.id
    assert (actor.project_id, actor.domain_id, actor.system_scope) == (None, None, None)
    assert actor.roles == frozenset()


# --- credentials of other kinds ---


async def test_an_application_credential_has_the_roles_that_it_was_given(
    any_cloud: Cloud, opened: Opened
) -> None:
    someone = Someone(any_cloud)
    credential = any_cloud.call(
        "POST",
        f"/users/{someone.id}/application_credentials",
        {"application_credential": {"name": "ci", "roles": [{"name": "reader"}]}},
        token=someone.token(),
    ).json()["application_credential"]

    actor = await opened(any_cloud.url).authenticate(any_cloud.application_token(credential))

    assert (actor.user_id, actor.project_id) == (someone.id, someone.project_id)
    assert actor.roles == {"reader"}


async def test_a_credential_restricted_to_other_calls_is_refused_and_never_widened(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    someone = Someone(cloud)
    rule = {"path": "/v2.0/networks", "method": "GET", "service": "network"}
    credential = cloud.call(
        "POST",
        f"/users/{someone.id}/application_credentials",
        {"application_credential": {"name": "narrow", "access_rules": [rule]}},
        token=someone.token(),
    ).json()["application_credential"]

    with pytest.raises(Unauthenticated):
        await opened(keystone.url).authenticate(cloud.application_token(credential))


@pytest.mark.parametrize("impersonation", [True, False])
async def test_a_trust_acts_in_the_trustors_project(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened, *, impersonation: bool
) -> None:
    trustor, trustee = Someone(cloud), Someone(cloud)
    trust = cloud.call(
        "POST",
        "/OS-TRUST/trusts",
        {
            "trust": {
                "trustor_user_id": trustor.id,
                "trustee_user_id": trustee.id,
                "project_id": trustor.project_id,
                "impersonation": impersonation,
                "roles": [{"name": "member"}],
            }
        },
        token=trustor.token(),
    ).json()["trust"]
    token = cloud.token(trustee.name, trustee.password, trust=trust["id"])

    actor = await opened(keystone.url).authenticate(token)

    assert actor.project_id == trustor.project_id
    assert actor.user_id == (trustor.id if impersonation else trustee.id)
    assert "member" in actor.roles


# --- what is not valid ---


@pytest.mark.parametrize("token", [None, "", "junk", "a.b.c", "gAAAAA" + "x" * 200, "\xe9", "a b"])
async def test_made_up_tokens_are_refused(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened, token: str | None
) -> None:
    with pytest.raises(Unauthenticated):
        await opened(keystone.url).authenticate(token)


async def test_a_forged_token_is_refused(any_cloud: Cloud, opened: Opened) -> None:
    token = Someone(any_cloud).token()
    middle = len(token) // 2
    forged = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]

    with pytest.raises(Unauthenticated):
        await opened(any_cloud.url).authenticate(forged)


async def test_a_revoked_token_is_refused(any_cloud: Cloud, opened: Opened) -> None:
    token = Someone(any_cloud).token()
    any_cloud.revoke(token)

    with pytest.raises(Unauthenticated):
        await opened(any_cloud.url).authenticate(token)


async def test_a_revocation_is_honoured_when_the_verdict_ends(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    authenticator = opened(keystone.url, token_cache_seconds=8)
    token = Someone(cloud).token()
    await authenticator.authenticate(token)
    cloud.revoke(token)

    assert authenticator.authenticate_now(token) is not None
    await asyncio.sleep(8.2)
    assert authenticator.authenticate_now(token) is None
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(token)


async def test_without_a_cache_a_revocation_is_honoured_at_once(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    authenticator = opened(keystone.url, token_cache_seconds=0)
    token = Someone(cloud).token()
    await authenticator.authenticate(token)
    cloud.revoke(token)

    assert authenticator.authenticate_now(token) is None
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(token)


@pytest.mark.parametrize("what", ["user", "project"])
async def test_a_disabled_user_or_project_is_refused(
    any_cloud: Cloud, opened: Opened, what: str
) -> None:
    someone = Someone(any_cloud)
    token = someone.token()
    thing = someone.id if what == "user" else someone.project_id
    any_cloud.call("PATCH", f"/{what}s/{thing}", {what: {"enabled": False}})

    with pytest.raises(Unauthenticated):
        await opened(any_cloud.url).authenticate(token)


async def test_a_token_whose_roles_were_taken_away_is_refused(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    someone = Someone(cloud)
    token = someone.token()
    cloud.call(
        "DELETE",
        f"/projects/{someone.project_id}/users/{someone.id}/roles/{cloud.roles['member']}",
    )

    with pytest.raises(Unauthenticated):
        await opened(keystone.url).authenticate(token)


# --- the service user ---


async def test_a_lost_token_of_our_own_is_replaced_unnoticed(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    authenticator = opened(keystone.url)
    await authenticator.authenticate(Someone(cloud).token())
    own = authenticator._client._login.token
    cloud.revoke(own)

    actor = await authenticator.authenticate(Someone(cloud).token())

    assert actor.project_id
    assert authenticator._client._login.token != own


async def test_a_wrong_service_password_is_not_the_callers_fault(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    with pytest.raises(IdentityUnavailable, match="refuses the service user"):
        await opened(keystone.url, password="not it").authenticate(Someone(cloud).token())


async def test_a_service_user_without_the_right_is_not_the_callers_fault(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    weak, someone = Someone(cloud), Someone(cloud)
    authenticator = opened(
        keystone.url, username=weak.name, password=weak.password, project_name=weak.project
    )

    with pytest.raises(IdentityUnavailable, match="may not validate tokens"):
        await authenticator.authenticate(someone.token())


async def test_the_base_url_may_lack_its_version_and_end_with_a_slash(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    base = keystone.url.removesuffix("/v3")

    for url in (base, f"{base}/", f"{base}/v3/"):
        assert await opened(url).authenticate(Someone(cloud).token())


async def test_a_url_that_is_not_keystones_is_not_the_callers_fault(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    with pytest.raises(IdentityUnavailable):
        await opened(f"{keystone.url}/nowhere").authenticate(Someone(cloud).token())


async def test_a_refusal_names_the_place_to_log_in(
    keystone: KeystoneServer, opened: Opened
) -> None:
    assert opened(keystone.url).www_authenticate == f'Keystone uri="{keystone.url}"'
    public = opened(keystone.url, www_authenticate_uri="https://cloud.example.com:5000")
    assert public.www_authenticate == 'Keystone uri="https://cloud.example.com:5000"'


# --- load ---


async def test_two_hundred_requests_with_one_token_ask_once(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator = opened(keystone.url)
    asked = 0
    ask = authenticator._client._ask

    async def counted(own: str, token: str, *, allow_expired: bool = False) -> object:
        nonlocal asked
        asked += 1
        return await ask(own, token, allow_expired=allow_expired)

    monkeypatch.setattr(authenticator._client, "_ask", counted)
    token = Someone(cloud).token()

    actors = await asyncio.gather(*(authenticator.authenticate(token) for _ in range(200)))

    assert asked == 1
    assert len({actor.project_id for actor in actors}) == 1
    assert authenticator.authenticate_now(token) is actors[0]


# --- tokens that end ---


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The administrator of a Keystone whose tokens live for seconds. The administrator's own was
    given out before that was so."""
    server = KeystoneServer(tmp_path_factory.mktemp("short")).start()
    admin = Cloud(server.url)
    furnish(admin)
    server.stop()
    server.configure(expiration=SHORT_SECONDS)
    server.start()
    yield admin
    admin.close()
    server.stop()


async def test_an_ended_token_passes_only_with_a_service_that_vouches_for_it(
    short: Cloud, opened: Opened
) -> None:
    authenticator = opened(short.url)
    someone = Someone(short)
    nova = Someone(short, "service")
    meddler = Someone(short, "member")
    token = someone.token()
    assert (await authenticator.authenticate(token)).project_id == someone.project_id
    await asyncio.sleep(SHORT_SECONDS + 1)

    assert authenticator.authenticate_now(token) is None
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(token)
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(token, meddler.token())
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(token, "made up")
    vouching = nova.token()
    actor = await authenticator.authenticate(token, vouching)

    assert actor.project_id == someone.project_id
    assert actor.roles == {"member", "reader"}
    assert actor.service_roles == {"service"}
    assert authenticator.authenticate_now(token, vouching) == actor
    assert authenticator.authenticate_now(token) is None


async def test_our_own_token_is_renewed_when_it_ends(short: Cloud, opened: Opened) -> None:
    authenticator = opened(short.url)
    someone = Someone(short)
    owned = set()
    deadline = time.monotonic() + 60
    while len(owned) < 3:
        assert time.monotonic() < deadline
        assert await authenticator.authenticate(someone.token())
        owned.add(authenticator._client._login.token)
        await asyncio.sleep(0.5)


# --- a service token on a valid one ---


async def test_the_roles_of_a_service_token_come_along(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    authenticator = opened(keystone.url)
    token, vouching = Someone(cloud).token(), Someone(cloud, "service").token()

    with_service = await authenticator.authenticate(token, vouching)
    alone = await authenticator.authenticate(token)
    with_junk = await authenticator.authenticate(token, "made up")

    assert with_service.service_roles == {"service"}
    assert alone.service_roles == with_junk.service_roles == frozenset()


# --- outages ---


async def test_known_tokens_go_on_through_an_outage_and_others_are_asked_to_come_back(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    authenticator = opened(keystone.url)
    known, unknown = Someone(cloud).token(), Someone(cloud).token()
    await authenticator.authenticate(known)

    keystone.stop()
    try:
        for _ in range(20):
            assert await authenticator.authenticate(known)
            with pytest.raises(IdentityUnavailable):
                await authenticator.authenticate(unknown)
    finally:
        keystone.start()

    deadline = time.monotonic() + 15
    while True:
        try:
            assert await authenticator.authenticate(unknown)
        except IdentityUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        else:
            break


async def test_a_frozen_keystone_makes_nobody_wait_twice(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    authenticator = opened(keystone.url)
    known = Someone(cloud).token()
    tokens = [Someone(cloud).token() for _ in range(3)]
    await authenticator.authenticate(known)

    keystone.freeze()
    try:
        begin = time.monotonic()
        first = await asyncio.gather(
            *(authenticator.authenticate(token) for token in tokens), return_exceptions=True
        )
        assert all(isinstance(answer, IdentityUnavailable) for answer in first)
        assert time.monotonic() - begin < 12
        begin = time.monotonic()
        with pytest.raises(IdentityUnavailable):
            await authenticator.authenticate("another" + tokens[0])
        assert authenticator.authenticate_now(known)
        # Who waits for an answer waits 8 s.
        assert time.monotonic() - begin < 4
    finally:
        keystone.thaw()


# --- secrecy ---


async def test_neither_tokens_nor_the_password_reach_a_log(
    keystone: KeystoneServer,
    cloud: Cloud,
    opened: Opened,
    caplog: pytest.LogCaptureFixture,
) -> None:
    capture = LogCapture()
    structlog.configure(processors=[capture])
    try:
        with caplog.at_level("DEBUG"):
            token, revoked = Someone(cloud).token(), Someone(cloud).token()
            cloud.revoke(revoked)
            authenticator = opened(keystone.url)
            actor = await authenticator.authenticate(token)
            with pytest.raises(Unauthenticated):
                await authenticator.authenticate(revoked)
            with pytest.raises(IdentityUnavailable) as refused:
                await opened(keystone.url, password="not the password").authenticate(token)
    finally:
        structlog.reset_defaults()

    own = authenticator._client._login.token
    told = f"{capture.entries} {caplog.text} {actor!r} {refused.value!r}"
    assert "refuses the service user" in told
    for secret in (token, revoked, own, "not the password", "password of the service user"):
        assert secret not in told
