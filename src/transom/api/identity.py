"""The identity face: which version is spoken, and its part of the route table.

Enough of Keystone's Identity API v3 that unmodified clients log in and find their way. Everything
is served below `/v3` and, as `/` belongs to the image service, below `/identity/v3` too, where
discovery from a base finds it.
"""

from __future__ import annotations

from dataclasses import replace

from starlette.responses import Response

from transom.api import identity_bodies as bodies
from transom.api import identity_views as views
from transom.api.call import Call
from transom.api.identity_accounts import (
    assignment_list,
    domain_list,
    domain_show,
    endpoint_list,
    endpoint_show,
    grant_add,
    grant_check,
    grant_list,
    grant_remove,
    password_change,
    project_create,
    project_delete,
    project_list,
    project_show,
    project_update,
    region_list,
    region_show,
    role_create,
    role_delete,
    role_list,
    role_show,
    service_list,
    service_show,
    user_create,
    user_delete,
    user_list,
    user_project_list,
    user_show,
    user_update,
)
from transom.api.identity_credentials import (
    credential_create,
    credential_delete,
    credential_list,
    credential_show,
)
from transom.api.identity_requests import answer
from transom.api.identity_tokens import (
    catalog_show,
    own_domain_list,
    own_project_list,
    own_system_list,
    token_check,
    token_create,
    token_revoke,
    token_show,
)
from transom.api.route import Route
from transom.settings import Settings


async def identity_version(call: Call) -> Response:
    """`GET /v3`: the version, for clients that discover."""
    return answer(bodies.IdentityVersionAnswer(version=views.version(call)))


async def identity_versions(call: Call) -> Response:
    """`GET /identity`: the versions, of which there is one."""
    found = bodies.IdentityVersionValues(values=[views.version(call)])
    return answer(
        bodies.IdentityVersionsAnswer(versions=found),
        300,
        {"location": f"{call.base_url}/v3/"},
    )


def _is_local(settings: Settings) -> bool:
    return settings.identity.backend == "local"


_TOKENS = "/v3/auth/tokens"
_GRANT = "/v3/projects/{project_id}/users/{user_id}/roles"
_CREDENTIALS = "/v3/users/{user_id}/application_credentials"

_ROWS: tuple[Route, ...] = (
    Route("GET", "/v3", identity_version, "Show the version of the Identity API",
          needs_token=False, answer=bodies.IdentityVersionAnswer),
    Route("GET", "/v3/", identity_version, "Show the version of the Identity API",
          needs_token=False, answer=bodies.IdentityVersionAnswer),
    # tokens
    Route("POST", _TOKENS, token_create, "Log in", 201, needs_token=False,
          parameters=(bodies.NOCATALOG,), body=bodies.AuthRequest, answer=bodies.TokenAnswer,
          answer_headers=("x-subject-token",), errors=(401, 403, 413)),
    Route("GET", _TOKENS, token_show, "Show what a token says",
          parameters=(bodies.SUBJECT, bodies.NOCATALOG, bodies.ALLOW_EXPIRED),
          answer=bodies.TokenAnswer, answer_headers=("x-subject-token",), errors=(403, 404)),
    Route("HEAD", _TOKENS, token_check, "Check a token",
          parameters=(bodies.SUBJECT, bodies.ALLOW_EXPIRED), answer_headers=("x-subject-token",),
          errors=(403, 404)),
    Route("DELETE", _TOKENS, token_revoke, "Revoke a token", 204, parameters=(bodies.SUBJECT,),
          errors=(403, 404)),
    Route("GET", "/v3/auth/catalog", catalog_show, "List the services and where they are",
          answer=bodies.CatalogAnswer, errors=(403,)),
    Route("GET", "/v3/auth/projects", own_project_list, "List the projects to log in to",
          answer=bodies.ProjectsAnswer),
    Route("GET", "/v3/auth/domains", own_domain_list, "List the domains to log in to",
          answer=bodies.DomainsAnswer),
    Route("GET", "/v3/auth/system", own_system_list, "List the systems to log in to",
          answer=bodies.SystemAnswer),
    # projects
    Route("GET", "/v3/projects", project_list, "List projects",
          parameters=(bodies.NAME, bodies.DOMAIN, bodies.ENABLED), answer=bodies.ProjectsAnswer,
          errors=(403,)),
    Route("POST", "/v3/projects", project_create, "Create a project", 201,
          body=bodies.NewProjectRequest, answer=bodies.ProjectAnswer, errors=(403, 409, 413)),
    Route("GET", "/v3/projects/{project_id}", project_show, "Show a project",
          answer=bodies.ProjectAnswer, errors=(403, 404)),
    Route("PATCH", "/v3/projects/{project_id}", project_update, "Change a project",
          body=bodies.ProjectChangeRequest, answer=bodies.ProjectAnswer,
          errors=(403, 404, 409, 413)),
    Route("DELETE", "/v3/projects/{project_id}", project_delete, "Delete a project", 204,
          errors=(403, 404)),
    # users
    Route("GET", "/v3/users", user_list, "List users",
          parameters=(bodies.NAME, bodies.DOMAIN, bodies.ENABLED), answer=bodies.UsersAnswer,
          errors=(403,)),
    Route("POST", "/v3/users", user_create, "Create a user", 201, body=bodies.NewUserRequest,
          answer=bodies.UserAnswer, errors=(403, 409, 413)),
    Route("GET", "/v3/users/{user_id}", user_show, "Show a user", answer=bodies.UserAnswer,
          errors=(403, 404)),
    Route("PATCH", "/v3/users/{user_id}", user_update, "Change a user",
          body=bodies.UserChangeRequest, answer=bodies.UserAnswer, errors=(403, 404, 409, 413)),
    Route("DELETE", "/v3/users/{user_id}", user_delete, "Delete a user", 204, errors=(403, 404)),
    Route("POST", "/v3/users/{user_id}/password", password_change, "Change one's own password",
          204, body=bodies.PasswordChangeRequest, errors=(403, 404, 413)),
    Route("GET", "/v3/users/{user_id}/projects", user_project_list,
          "List the projects in which a user has a role",
          parameters=(bodies.NAME, bodies.DOMAIN, bodies.ENABLED), answer=bodies.ProjectsAnswer,
          errors=(403, 404)),
    # application credentials
    Route("GET", _CREDENTIALS, credential_list, "List application credentials",
          parameters=(bodies.NAME,), answer=bodies.CredentialsAnswer, errors=(403,)),
    Route("POST", _CREDENTIALS, credential_create, "Create an application credential", 201,
          body=bodies.NewCredentialRequest, answer=bodies.CredentialAnswer,
          errors=(403, 409, 413)),
    Route("GET", f"{_CREDENTIALS}/{{credential_id}}", credential_show,
          "Show an application credential", answer=bodies.CredentialAnswer, errors=(403, 404)),
    Route("DELETE", f"{_CREDENTIALS}/{{credential_id}}", credential_delete,
          "Delete an application credential", 204, errors=(403, 404)),
    # roles
    Route("GET", "/v3/roles", role_list, "List roles", parameters=(bodies.NAME,),
          answer=bodies.RolesAnswer, errors=(403,)),
    Route("POST", "/v3/roles", role_create, "Create a role", 201, body=bodies.NewRoleRequest,
          answer=bodies.RoleAnswer, errors=(403, 409, 413)),
    Route("GET", "/v3/roles/{role_id}", role_show, "Show a role", answer=bodies.RoleAnswer,
          errors=(403, 404)),
    Route("DELETE", "/v3/roles/{role_id}", role_delete, "Delete a role", 204, errors=(403, 404)),
    Route("GET", _GRANT, grant_list, "List a user's roles in a project",
          answer=bodies.RolesAnswer, errors=(403, 404)),
    Route("HEAD", f"{_GRANT}/{{role_id}}", grant_check, "Check a user's role in a project", 204,
          errors=(403, 404)),
    Route("PUT", f"{_GRANT}/{{role_id}}", grant_add, "Give a user a role in a project", 204,
          errors=(403, 404)),
    Route("DELETE", f"{_GRANT}/{{role_id}}", grant_remove, "Take a role from a user in a project",
          204, errors=(403, 404)),
    Route("GET", "/v3/role_assignments", assignment_list, "List who is what where",
          parameters=bodies.ASSIGNMENT_PARAMETERS, answer=bodies.AssignmentsAnswer, errors=(403,)),
    # what never changes
    Route("GET", "/v3/domains", domain_list, "List domains",
          parameters=(bodies.NAME, bodies.ENABLED), answer=bodies.DomainsAnswer, errors=(403,)),
    Route("GET", "/v3/domains/{domain_id}", domain_show, "Show a domain",
          answer=bodies.DomainAnswer, errors=(403, 404)),
    Route("GET", "/v3/services", service_list, "List services",
          parameters=bodies.SERVICE_PARAMETERS, answer=bodies.ServicesAnswer, errors=(403,)),
    Route("GET", "/v3/services/{service_id}", service_show, "Show a service",
          answer=bodies.ServiceAnswer, errors=(403, 404)),
    Route("GET", "/v3/endpoints", endpoint_list, "List where services are reached",
          parameters=bodies.ENDPOINT_PARAMETERS, answer=bodies.EndpointsAnswer, errors=(403,)),
    Route("GET", "/v3/endpoints/{endpoint_id}", endpoint_show, "Show where a service is reached",
          answer=bodies.EndpointAnswer, errors=(403, 404)),
    Route("GET", "/v3/regions", region_list, "List regions", answer=bodies.RegionsAnswer),
    Route("GET", "/v3/regions/{region_id}", region_show, "Show a region",
          answer=bodies.RegionAnswer, errors=(404,)),
)  # fmt: skip

_DISCOVERY: tuple[Route, ...] = tuple(
    Route("GET", path, identity_versions, "List the versions of the Identity API", 300,
          needs_token=False, answer=bodies.IdentityVersionsAnswer, answer_headers=("location",))
    for path in ("/identity", "/identity/")
)  # fmt: skip

IDENTITY_ROUTES: tuple[Route, ...] = tuple(
    replace(route, face="identity", when=_is_local)
    for route in (
        *_ROWS,
        *_DISCOVERY,
        *(replace(route, path=f"/identity{route.path}") for route in _ROWS),
    )
)
"""The rows of the identity face, on while `[identity] backend` is `local`."""
