"""Users, projects, roles and who is what where: `/v3/users`, `/v3/projects`, `/v3/roles` …"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct
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
    insist_on_admin,
    insist_on_self_or_admin,
    read,
    switch,
)
from transom.auth.local import manage
from transom.auth.local.accounts import Accounts
from transom.auth.local.roles import with_implied
from transom.errors import (
    IdentityNotFound,
    IdentityRefused,
    InvalidValue,
)
from transom.model.identity import DOMAIN_ID, DOMAIN_NAME, REGION, Project, Role, User


def _accounts(call: Call) -> Accounts:
    return identity_of(call).accounts


def _is_wanted(call: Call, row: User | Project) -> bool:
    enabled = switch(call, "enabled")
    return (enabled is None or row.is_enabled == enabled) and first(call, "domain_id") in (
        None,
        DOMAIN_ID,
    )


def _given(change: Struct, *names: str) -> dict[str, Any]:
    """The named fields that a change gives, `enabled` under its name in the catalog."""
    found = {name: getattr(change, name) for name in names}
    return {
        "is_enabled" if name == "enabled" else name: value
        for name, value in found.items()
        if value is not UNSET
    }


def _insist_on_domain(domain_id: str | None) -> None:
    if domain_id not in (None, DOMAIN_ID):
        raise InvalidValue("domain_id", f"there is one domain here, '{DOMAIN_ID}'.")


# --- projects -----------------------------------------------------------------------------------------


async def project_list(call: Call) -> Response:
    """`GET /v3/projects`."""
    insist_on_admin(call, "list_projects")
    found = await _accounts(call).projects(first(call, "name"))
    return answer(
        bodies.ProjectsAnswer(
            projects=[views.project(call, each) for each in found if _is_wanted(call, each)],
            links=views.page_links(call, "projects"),
        )
    )


async def project_show(call: Call) -> Response:
    """`GET /v3/projects/{project_id}`: one's own, or any for administrators."""
    own = await caller(call)
    project_id = call.params["project_id"]
    if own.project is None or own.project.id != project_id:
        insist_on_admin(call, "get_project")
    return _project(call, await _project_of(call))


@changes
async def project_create(call: Call) -> Response:
    """`POST /v3/projects`."""
    insist_on_admin(call, "create_project")
    new = (await read(call, bodies.NewProjectRequest)).project
    _insist_on_domain(new.domain_id)
    if new.is_domain or new.parent_id not in (None, DOMAIN_ID):
        raise InvalidValue("parent_id", "projects stand side by side here; leave it out.")
    made = await manage.create_project(
        _accounts(call), new.name, is_enabled=new.enabled, description=new.description or ""
    )
    return _project(call, made, 201)


@changes
async def project_update(call: Call) -> Response:
    """`PATCH /v3/projects/{project_id}`."""
    insist_on_admin(call, "update_project")
    change = (await read(call, bodies.ProjectChangeRequest)).project
    project = await _project_of(call)
    given = _given(change, "name", "description", "enabled")
    return _project(call, await manage.change_project(_accounts(call), project, **given))


@changes
async def project_delete(call: Call) -> Response:
    """`DELETE /v3/projects/{project_id}`."""
    insist_on_admin(call, "delete_project")
    await _accounts(call).remove_project(call.params["project_id"])
    return empty()


async def _project_of(call: Call) -> Project:
    project_id = call.params["project_id"]
    found = await _accounts(call).project(project_id)
    if found is None:
        raise IdentityNotFound("project", project_id)
    return found


def _project(call: Call, project: Project, status: int = 200) -> Response:
    return answer(bodies.ProjectAnswer(project=views.project(call, project)), status)


# --- users --------------------------------------------------------------------------------------------


async def user_list(call: Call) -> Response:
    """`GET /v3/users`."""
    insist_on_admin(call, "list_users")
    found = await _accounts(call).users(first(call, "name"))
    return answer(
        bodies.UsersAnswer(
            users=[views.user(call, each) for each in found if _is_wanted(call, each)],
            links=views.page_links(call, "users"),
        )
    )


async def user_show(call: Call) -> Response:
    """`GET /v3/users/{user_id}`: oneself, or anybody for administrators."""
    insist_on_self_or_admin(call, call.params["user_id"], "get_user")
    return _user(call, await _user_of(call))


async def user_project_list(call: Call) -> Response:
    """`GET /v3/users/{user_id}/projects`: where a user has a role."""
    insist_on_self_or_admin(call, call.params["user_id"], "list_user_projects")
    user = await _user_of(call)
    name = first(call, "name")
    found = await _accounts(call).projects_of(user.id)
    return answer(
        bodies.ProjectsAnswer(
            projects=[
                views.project(call, each)
                for each in found
                if _is_wanted(call, each) and name in (None, each.name)
            ],
            links=views.page_links(call, f"users/{user.id}/projects"),
        )
    )


@changes
async def user_create(call: Call) -> Response:
    """`POST /v3/users`."""
    insist_on_admin(call, "create_user")
    new = (await read(call, bodies.NewUserRequest)).user
    _insist_on_domain(new.domain_id)
    made = await manage.create_user(
        _accounts(call),
        new.name,
        new.password,
        is_enabled=new.enabled,
        description=new.description or "",
        email=new.email or "",
        default_project_id=new.default_project_id,
    )
    return _user(call, made, 201)


@changes
async def user_update(call: Call) -> Response:
    """`PATCH /v3/users/{user_id}`; a new password lets the user's tokens die."""
    insist_on_admin(call, "update_user")
    change = (await read(call, bodies.UserChangeRequest)).user
    accounts, user = _accounts(call), await _user_of(call)
    given = _given(change, "name", "description", "email", "enabled", "default_project_id")
    password = None if change.password is UNSET else change.password
    return _user(call, await manage.change_user(accounts, user, password, **given))


@changes
async def user_delete(call: Call) -> Response:
    """`DELETE /v3/users/{user_id}`."""
    insist_on_admin(call, "delete_user")
    await _accounts(call).remove_user(call.params["user_id"])
    return empty()


@changes
async def password_change(call: Call) -> Response:
    """`POST /v3/users/{user_id}/password`: one's own, with the old one as proof."""
    own = await caller(call)
    if own.user.id != call.params["user_id"] or own.credential is not None:
        raise IdentityRefused("identity:change_password")
    change = (await read(call, bodies.PasswordChangeRequest)).user
    user = await identity_of(call).check_password(
        own.user.id, change.original_password, call.client_address
    )
    await manage.change_user(_accounts(call), user, change.password)
    return empty()


async def _user_of(call: Call) -> User:
    user_id = call.params["user_id"]
    found = await _accounts(call).user(user_id)
    if found is None:
        raise IdentityNotFound("user", user_id)
    return found


def _user(call: Call, user: User, status: int = 200) -> Response:
    return answer(bodies.UserAnswer(user=views.user(call, user)), status)


# --- roles --------------------------------------------------------------------------------------------


async def role_list(call: Call) -> Response:
    """`GET /v3/roles`."""
    insist_on_admin(call, "list_roles")
    found = await _accounts(call).roles(first(call, "name"))
    return _roles(call, found, "roles")


async def role_show(call: Call) -> Response:
    """`GET /v3/roles/{role_id}`."""
    insist_on_admin(call, "get_role")
    return answer(bodies.RoleAnswer(role=views.role(call, await _role_of(call))))


@changes
async def role_create(call: Call) -> Response:
    """`POST /v3/roles`: for policy rules of an operator's own."""
    insist_on_admin(call, "create_role")
    new = (await read(call, bodies.NewRoleRequest)).role
    if new.domain_id is not None:
        raise InvalidValue("domain_id", "roles belong to no domain here; leave it out.")
    made = await manage.create_role(_accounts(call), new.name)
    return answer(bodies.RoleAnswer(role=views.role(call, made)), 201)


@changes
async def role_delete(call: Call) -> Response:
    """`DELETE /v3/roles/{role_id}`: not one that is built in."""
    insist_on_admin(call, "delete_role")
    await manage.delete_role(_accounts(call), await _role_of(call))
    return empty()


async def _role_of(call: Call) -> Role:
    role_id = call.params["role_id"]
    for role in await _accounts(call).roles():
        if role.id == role_id:
            return role
    raise IdentityNotFound("role", role_id)


def _roles(call: Call, roles: tuple[Role, ...], path: str) -> Response:
    return answer(
        bodies.RolesAnswer(
            roles=[views.role(call, each) for each in roles], links=views.page_links(call, path)
        )
    )


# --- who is what where ----------------------------------------------------------------------------------


async def grant_list(call: Call) -> Response:
    """`GET /v3/projects/{project_id}/users/{user_id}/roles`."""
    insist_on_admin(call, "list_grants")
    project, user = await _project_of(call), await _user_of(call)
    held = await _accounts(call).grants(user.id, project.id)
    path = f"projects/{project.id}/users/{user.id}/roles"
    return _roles(call, tuple(grant.role for grant in held), path)


async def grant_check(call: Call) -> Response:
    """`HEAD /v3/projects/{project_id}/users/{user_id}/roles/{role_id}`."""
    insist_on_admin(call, "check_grant")
    project_id, user_id, role_id = _grant(call)
    if not await _accounts(call).grants(user_id, project_id, role_id):
        raise IdentityNotFound("role assignment", role_id)
    return empty()


@changes
async def grant_add(call: Call) -> Response:
    """`PUT /v3/projects/{project_id}/users/{user_id}/roles/{role_id}`."""
    insist_on_admin(call, "create_grant")
    project_id, user_id, role_id = _grant(call)
    await _accounts(call).grant(user_id, project_id, role_id)
    return empty()


@changes
async def grant_remove(call: Call) -> Response:
    """`DELETE /v3/projects/{project_id}/users/{user_id}/roles/{role_id}`: tokens that stand on the
    role die, and the user's application credentials in the project go."""
    insist_on_admin(call, "revoke_grant")
    project_id, user_id, role_id = _grant(call)
    await _accounts(call).withdraw(user_id, project_id, role_id)
    return empty()


def _grant(call: Call) -> tuple[str, str, str]:
    return call.params["project_id"], call.params["user_id"], call.params["role_id"]


async def assignment_list(call: Call) -> Response:
    """`GET /v3/role_assignments`."""
    insist_on_admin(call, "list_role_assignments")
    accounts = _accounts(call)
    wanted_role = first(call, "role.id")
    found = await accounts.grants(first(call, "user.id"), first(call, "scope.project.id"))
    roles = {role.name: role for role in await accounts.roles()}
    names: dict[str, str] | None = None
    if switch(call, "include_names"):
        names = {user.id: user.name for user in await accounts.users()}
        names |= {project.id: project.name for project in await accounts.projects()}
    with_all = switch(call, "effective")
    shown = [
        views.assignment(call, grant, roles[name], names)
        for grant in found
        for name in sorted(with_implied([grant.role.name]) if with_all else [grant.role.name])
        if name in roles and wanted_role in (None, roles[name].id)
    ]
    return answer(
        bodies.AssignmentsAnswer(
            role_assignments=shown, links=views.page_links(call, "role_assignments")
        )
    )


# --- what never changes ---------------------------------------------------------------------------------


async def domain_list(call: Call) -> Response:
    """`GET /v3/domains`: the one."""
    insist_on_admin(call, "list_domains")
    is_asked_for = (
        first(call, "name") in (None, DOMAIN_NAME) and switch(call, "enabled") is not False
    )
    return answer(
        bodies.DomainsAnswer(
            domains=[views.domain(call)] if is_asked_for else [],
            links=views.page_links(call, "domains"),
        )
    )


async def domain_show(call: Call) -> Response:
    """`GET /v3/domains/{domain_id}`: everybody may see the one that everybody is in."""
    await caller(call)
    domain_id = call.params["domain_id"]
    if domain_id != DOMAIN_ID:
        insist_on_admin(call, "get_domain")
        raise IdentityNotFound("domain", domain_id)
    return answer(bodies.DomainAnswer(domain=views.domain(call)))


async def service_list(call: Call) -> Response:
    """`GET /v3/services`."""
    insist_on_admin(call, "list_services")
    name, kind = first(call, "name"), first(call, "type")
    return answer(
        bodies.ServicesAnswer(
            services=[
                views.service(call, row)
                for row in views.SERVICES
                if name in (None, row.name) and kind in (None, row.type)
            ],
            links=views.page_links(call, "services"),
        )
    )


async def service_show(call: Call) -> Response:
    """`GET /v3/services/{service_id}`."""
    insist_on_admin(call, "get_service")
    service_id = call.params["service_id"]
    for row in views.SERVICES:
        if views.service_id(row) == service_id:
            return answer(bodies.ServiceAnswer(service=views.service(call, row)))
    raise IdentityNotFound("service", service_id)


async def endpoint_list(call: Call) -> Response:
    """`GET /v3/endpoints`."""
    insist_on_admin(call, "list_endpoints")
    service_id, interface = first(call, "service_id"), first(call, "interface")
    region = first(call, "region_id") or first(call, "region")
    return answer(
        bodies.EndpointsAnswer(
            endpoints=[
                each
                for each in views.endpoints(call)
                if service_id in (None, each.service_id)
                and interface in (None, each.interface)
                and region in (None, REGION)
            ],
            links=views.page_links(call, "endpoints"),
        )
    )


async def endpoint_show(call: Call) -> Response:
    """`GET /v3/endpoints/{endpoint_id}`."""
    insist_on_admin(call, "get_endpoint")
    endpoint_id = call.params["endpoint_id"]
    for each in views.endpoints(call):
        if each.id == endpoint_id:
            return answer(bodies.EndpointAnswer(endpoint=each))
    raise IdentityNotFound("endpoint", endpoint_id)


async def region_list(call: Call) -> Response:
    """`GET /v3/regions`: the one."""
    await caller(call)
    return answer(
        bodies.RegionsAnswer(regions=[views.region(call)], links=views.page_links(call, "regions"))
    )


async def region_show(call: Call) -> Response:
    """`GET /v3/regions/{region_id}`."""
    await caller(call)
    region_id = call.params["region_id"]
    if region_id != REGION:
        raise IdentityNotFound("region", region_id)
    return answer(bodies.RegionAnswer(region=views.region(call)))
