"""Logging in and out, and what a token opens: `/v3/auth`."""

from __future__ import annotations

from starlette.responses import Response

from transom.api import identity_bodies as bodies
from transom.api import identity_views as views
from transom.api.call import Call
from transom.api.identity_requests import (
    answer,
    caller,
    empty,
    first,
    identity_of,
    read,
    switch,
)
from transom.auth.local.identity import (
    GRACE_SECONDS,
    REFUSED,
    UNSCOPED,
    Login,
    Password,
    ProjectReference,
    Secret,
    Token,
    UserReference,
    Verdict,
)
from transom.errors import (
    IdentityRefused,
    InvalidBody,
    NotFound,
    Unauthenticated,
)
from transom.model.actor import Actor
from transom.model.identity import DOMAIN_ID, DOMAIN_NAME

NOBODY = UserReference()


async def token_create(call: Call) -> Response:
    """`POST /v3/auth/tokens`: log in."""
    request = await read(call, bodies.AuthRequest)
    login = _login(request.auth)
    call.actor = _claimed(login)
    verdict = await identity_of(call).log_in(login, call.client_address)
    call.actor = verdict.actor
    shown = views.token(call, verdict, with_catalog=first(call, "nocatalog") is None)
    return answer(shown, 201, {"x-subject-token": verdict.token})


async def token_show(call: Call) -> Response:
    """`GET /v3/auth/tokens`: what a token says, to its owner, administrators and services."""
    verdict = await _subject(call, "validate_token")
    shown = views.token(call, verdict, with_catalog=first(call, "nocatalog") is None)
    return answer(shown, 200, {"x-subject-token": verdict.token})


async def token_check(call: Call) -> Response:
    """`HEAD /v3/auth/tokens`: is a token good?"""
    verdict = await _subject(call, "check_token")
    return empty(200, {"x-subject-token": verdict.token})


async def token_revoke(call: Call) -> Response:
    """`DELETE /v3/auth/tokens`: let a token die."""
    verdict = await _subject(call, "revoke_token")
    await identity_of(call).revoke(verdict)
    return empty()


async def catalog_show(call: Call) -> Response:
    """`GET /v3/auth/catalog`: the services, for a token with a project."""
    verdict = await caller(call)
    if verdict.project is None:
        raise IdentityRefused("identity:get_auth_catalog without a project; scope the token to one")
    return answer(
        bodies.CatalogAnswer(
            catalog=views.catalog(call.base_url, verdict.project.id),
            links=views.links(call, "auth/catalog"),
        )
    )


async def own_project_list(call: Call) -> Response:
    """`GET /v3/auth/projects`: the projects that the caller can get a token for."""
    verdict = await caller(call)
    projects = await identity_of(call).accounts.projects_of(verdict.user.id)
    return answer(
        bodies.ProjectsAnswer(
            projects=[views.project(call, project) for project in projects if project.is_enabled],
            links=views.page_links(call, "auth/projects"),
        )
    )


async def own_domain_list(call: Call) -> Response:
    """`GET /v3/auth/domains`: none, since roles are held in projects alone."""
    await caller(call)
    return answer(bodies.DomainsAnswer(domains=[], links=views.page_links(call, "auth/domains")))


async def own_system_list(call: Call) -> Response:
    """`GET /v3/auth/system`: none, since roles are held in projects alone."""
    await caller(call)
    return answer(bodies.SystemAnswer(system=[], links=views.links(call, "auth/system")))


async def _subject(call: Call, action: str) -> Verdict:
    """The verdict about the token in X-Subject-Token: one of the caller's own, or anybody's for
    administrators and (not to revoke) services. Raises NotFound when it is not good, and
    IdentityRefused when it is none of the caller's business."""
    own = await caller(call)
    token = call.headers.get("x-subject-token")
    is_service = "service" in call.actor.roles | call.actor.service_roles
    may_look = "admin" in call.actor.roles or (is_service and action != "revoke_token")
    if not token:
        if not may_look:
            raise IdentityRefused(f"identity:{action} without X-Subject-Token")
        raise NotFound("No token in the request; name it in X-Subject-Token.")
    # Only who looks after others is shown what has ended (Keystone's allow_expired).
    grace = GRACE_SECONDS if may_look and switch(call, "allow_expired") else 0.0
    try:
        verdict = await identity_of(call).verdict(token, grace)
    except Unauthenticated as dead:
        raise NotFound("Could not find the token: it is unknown, expired or revoked.") from dead
    if verdict.user.id != own.user.id and not may_look:
        raise IdentityRefused(f"identity:{action}")
    return verdict


# --- from the body to a login -----------------------------------------------------------------------


def _login(auth: bodies.Auth) -> Login:
    part = auth.identity
    proofs: list[Password | Token | Secret] = []
    for method in dict.fromkeys(part.methods):
        match method:
            case "password" if part.password is not None:
                user = part.password.user
                proofs.append(Password(_user(user), user.password))
            case "token" if part.token is not None:
                proofs.append(Token(part.token.id))
            case "application_credential" if part.application_credential is not None:
                proofs.append(_secret(part.application_credential))
            case "password" | "token" | "application_credential":
                raise InvalidBody(f"Expecting to find {method} in identity; add it.")
            case _:
                raise Unauthenticated(
                    "Attempted to authenticate with an unsupported method; use password, token or "
                    "application_credential."
                )
    return Login(tuple(proofs), _scope(auth.scope))


def _claimed(login: Login) -> Actor:
    """Whom a login speaks of, which is not proven yet: for the audit log."""
    for proof in login.proofs:
        if isinstance(proof, Password):
            return Actor(user_id=proof.user.id, user_name=proof.user.name)
    return Actor()


def _user(user: bodies.UserReference) -> UserReference:
    if user.id is not None:
        return UserReference(id=user.id)
    if user.name is None:
        raise InvalidBody("Expecting to find id or name in user; add one.")
    if user.domain is None:
        raise InvalidBody(
            "Expecting to find domain in user; add the domain, or give the user's id."
        )
    return UserReference(name=user.name) if _is_here(user.domain) else NOBODY


def _secret(part: bodies.CredentialMethod) -> Secret:
    if part.id is not None:
        return Secret(part.id, None, NOBODY, part.secret)
    if part.name is None or part.user is None:
        raise InvalidBody(
            "Expecting to find id, or name and user, in application_credential; add them."
        )
    return Secret(None, part.name, _user(part.user), part.secret)


def _scope(scope: bodies.Scope | str | None) -> ProjectReference | str | None:
    if scope is None:
        return None
    if isinstance(scope, str):
        return UNSCOPED
    asked = [
        name
        for name, part in (
            ("project", scope.project),
            ("domain", scope.domain),
            ("system", scope.system),
            ("OS-TRUST:trust", scope.trust),
        )
        if part is not None
    ]
    if len(asked) > 1:
        raise InvalidBody(f"Expecting one scope, found {' and '.join(asked)}; keep one.")
    project = scope.project
    if project is None:
        if asked:
            # Nobody holds a role there, which is what Keystone answers then.
            raise Unauthenticated(REFUSED)
        return None
    if project.id is not None:
        return ProjectReference(id=project.id)
    if project.name is None:
        raise InvalidBody("Expecting to find id or name in project; add one.")
    if project.domain is None:
        raise InvalidBody(
            "Expecting to find domain in project; add the domain, or give the project's id."
        )
    return ProjectReference(name=project.name) if _is_here(project.domain) else ProjectReference()


def _is_here(domain: bodies.DomainReference) -> bool:
    if domain.id is None and domain.name is None:
        raise InvalidBody("Expecting to find id or name in domain; add one.")
    if domain.id is not None:
        return domain.id == DOMAIN_ID
    return str(domain.name).lower() == DOMAIN_NAME.lower()
