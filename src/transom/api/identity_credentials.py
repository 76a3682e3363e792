"""Application credentials: `/v3/users/{user_id}/application_credentials`."""

from __future__ import annotations

import datetime as dt

from starlette.responses import Response

from transom.api import identity_bodies as bodies
from transom.api import identity_views as views
from transom.api.call import Call
from transom.api.identity_requests import (
    answer,
    caller,
    changes,
    empty,
    first,
    identity_of,
    insist_on_self_or_admin,
    read,
)
from transom.auth.local import manage
from transom.auth.local.identity import Verdict
from transom.errors import IdentityNotFound, IdentityRefused, InvalidValue
from transom.model.identity import ApplicationCredential, Role


async def credential_list(call: Call) -> Response:
    """`GET …/application_credentials`: one's own, or anybody's for administrators."""
    user_id = call.params["user_id"]
    insist_on_self_or_admin(call, user_id, "list_application_credentials")
    found = await identity_of(call).accounts.credentials_of(user_id, first(call, "name"))
    return answer(
        bodies.CredentialsAnswer(
            application_credentials=[views.credential(call, each) for each in found],
            links=views.page_links(call, f"users/{user_id}/application_credentials"),
        )
    )


async def credential_show(call: Call) -> Response:
    """`GET …/application_credentials/{credential_id}`."""
    insist_on_self_or_admin(call, call.params["user_id"], "get_application_credential")
    found = await _credential_of(call)
    return answer(bodies.CredentialAnswer(application_credential=views.credential(call, found)))


@changes
async def credential_create(call: Call) -> Response:
    """`POST …/application_credentials`: for oneself, in the project of the token, with some or all
    of its roles."""
    own = await caller(call)
    action = "create_application_credential"
    if own.user.id != call.params["user_id"]:
        raise IdentityRefused(f"identity:{action}")
    _insist_on_freedom(own, action)
    new = (await read(call, bodies.NewCredentialRequest)).application_credential
    if own.project is None:
        raise IdentityRefused(f"identity:{action} without a project; scope the token to one")
    if new.access_rules:
        raise InvalidValue(
            "access_rules", "they are not supported here; leave them out and limit the roles."
        )
    made, secret = await manage.create_credential(
        identity_of(call).accounts,
        user_id=own.user.id,
        project_id=own.project.id,
        name=new.name,
        secret=new.secret,
        roles=_roles(own, new.roles),
        description=new.description,
        expires_at=_moment(new.expires_at),
        is_unrestricted=bool(new.unrestricted),
    )
    shown = views.credential(call, made, secret)
    return answer(bodies.CredentialAnswer(application_credential=shown), 201)


@changes
async def credential_delete(call: Call) -> Response:
    """`DELETE …/application_credentials/{credential_id}`: its tokens die."""
    action = "delete_application_credential"
    insist_on_self_or_admin(call, call.params["user_id"], action)
    _insist_on_freedom(await caller(call), action)
    found = await _credential_of(call)
    await identity_of(call).accounts.remove_credential(found.id)
    return empty()


async def _credential_of(call: Call) -> ApplicationCredential:
    credential_id = call.params["credential_id"]
    found = await identity_of(call).accounts.credential(credential_id)
    if found is None or found.user_id != call.params["user_id"]:
        raise IdentityNotFound("Application Credential", credential_id)
    return found


def _insist_on_freedom(own: Verdict, action: str) -> None:
    """A credential must not breed others, unless its owner said so."""
    if own.credential is not None and not own.credential.is_unrestricted:
        raise IdentityRefused(f"identity:{action} with a restricted application credential")


def _roles(own: Verdict, asked: list[bodies.RoleReference] | None) -> tuple[Role, ...]:
    if not asked:
        return own.roles
    found = []
    for reference in asked:
        role = next(
            (
                role
                for role in own.roles
                if role.id == reference.id or (reference.id is None and role.name == reference.name)
            ),
            None,
        )
        if role is None:
            raise InvalidValue(
                "roles", f"you do not have role {reference.id or reference.name} in this project."
            )
        found.append(role)
    return tuple(dict.fromkeys(found))


def _moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as wrong:
        raise InvalidValue("expires_at", "give a time in ISO 8601, UTC.") from wrong
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
