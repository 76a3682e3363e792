"""What the identity face shows of each thing, as Keystone shows it, and the service catalog."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Final, NamedTuple

from msgspec import UNSET

from transom.api import identity_bodies as bodies
from transom.api.call import Call
from transom.auth.local import tokens
from transom.auth.local.identity import Verdict
from transom.model.identity import (
    DOMAIN_ID,
    DOMAIN_NAME,
    REGION,
    ROLE_NAMES,
    ApplicationCredential,
    Grant,
    Project,
    Role,
    User,
)

_INTERFACES: Final = ("public", "internal", "admin")
_ID_SPACE: Final = uuid.UUID("0a0a6c8e-4f0e-4d53-a0f8-6f0d7a3c53f1")
_DOMAIN: Final = bodies.Named(id=DOMAIN_ID, name=DOMAIN_NAME)


class ServiceRow(NamedTuple):
    """A service of the catalog. `url` may hold `{base}`, and `{project_id}` of the token."""

    type: str
    name: str
    url: str


SERVICES: Final = (
    # Not `{base}/v3`: who cuts the version off, to discover others, must not land on the images.
    ServiceRow("identity", "keystone", "{base}/identity/v3"),
    ServiceRow("image", "glance", "{base}"),
    ServiceRow("compute", "nova", "{base}/compute/v2.1"),
)
"""What the catalog lists, one line each, under the names that these services have everywhere."""


def service_id(service: ServiceRow) -> str:
    """The same id in every answer of every process."""
    return uuid.uuid5(_ID_SPACE, service.type).hex


def _endpoint_id(service: ServiceRow, interface: str) -> str:
    return uuid.uuid5(_ID_SPACE, f"{service.type} {interface}").hex


def catalog(base: str, project_id: str) -> list[bodies.CatalogService]:
    """The catalog for a token of the project, as reached under `base`."""
    return [
        bodies.CatalogService(
            endpoints=[
                bodies.CatalogEndpoint(
                    id=_endpoint_id(service, interface),
                    interface=interface,
                    region_id=REGION,
                    region=REGION,
                    url=service.url.format(base=base, project_id=project_id),
                )
                for interface in _INTERFACES
            ],
            id=service_id(service),
            type=service.type,
            name=service.name,
        )
        for service in SERVICES
    ]


def service(call: Call, row: ServiceRow) -> bodies.Service:
    """A service, for administrators."""
    return bodies.Service(
        id=service_id(row), name=row.name, type=row.type, enabled=True,
        links=links(call, f"services/{service_id(row)}"),
    )  # fmt: skip


def endpoints(call: Call) -> list[bodies.Endpoint]:
    """Every endpoint, for administrators; `%(project_id)s` stands for the project of a token."""
    return [
        bodies.Endpoint(
            id=_endpoint_id(row, interface),
            interface=interface,
            region_id=REGION,
            region=REGION,
            url=row.url.format(base=call.base_url, project_id="%(project_id)s"),
            service_id=service_id(row),
            enabled=True,
            links=links(call, f"endpoints/{_endpoint_id(row, interface)}"),
        )
        for row in SERVICES
        for interface in _INTERFACES
    ]


def moment(seconds: float) -> str:
    """A time as Keystone writes it: UTC with microseconds."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def token(call: Call, verdict: Verdict, *, with_catalog: bool) -> bodies.TokenAnswer:
    """What a token says."""
    shown = bodies.Token(
        # The way that this very token was made comes first.
        methods=sorted(verdict.methods, key=lambda method: (method != "token", method)),
        user=bodies.TokenUser(domain=_DOMAIN, id=verdict.user.id, name=verdict.user.name),
        audit_ids=[
            tokens.audit_text(audit_id)
            for audit_id in (verdict.audit_id, verdict.parent_audit_id)
            if audit_id
        ],
        expires_at=moment(verdict.expires_at),
        issued_at=moment(verdict.issued_at),
    )
    project = verdict.project
    if project is not None:
        shown.project = bodies.Placed(domain=_DOMAIN, id=project.id, name=project.name)
        shown.is_domain = False
        shown.roles = [bodies.Named(id=role.id, name=role.name) for role in verdict.roles]
        if with_catalog:
            shown.catalog = catalog(call.base_url, project.id)
    credential = verdict.credential
    if credential is not None:
        shown.application_credential = bodies.TokenCredential(
            id=credential.id, name=credential.name, restricted=not credential.is_unrestricted
        )
    return bodies.TokenAnswer(token=shown)


def project(call: Call, found: Project) -> bodies.Project:
    """A project."""
    return bodies.Project(
        id=found.id,
        name=found.name,
        domain_id=DOMAIN_ID,
        description=found.description,
        enabled=found.is_enabled,
        parent_id=DOMAIN_ID,
        is_domain=False,
        tags=[],
        options={},
        links=links(call, f"projects/{found.id}"),
    )


def user(call: Call, found: User) -> bodies.User:
    """A user, without anything of the password."""
    return bodies.User(
        id=found.id,
        name=found.name,
        domain_id=DOMAIN_ID,
        enabled=found.is_enabled,
        options={},
        default_project_id=found.default_project_id or UNSET,
        description=found.description or UNSET,
        email=found.email or UNSET,
        links=links(call, f"users/{found.id}"),
    )


def role(call: Call, found: Role) -> bodies.Role:
    """A role."""
    shown = _role(found)
    shown.links = links(call, f"roles/{found.id}")
    return shown


def _role(found: Role) -> bodies.Role:
    options: dict[str, Any] = {"immutable": True} if found.name in ROLE_NAMES else {}
    return bodies.Role(id=found.id, name=found.name, options=options)


def domain(call: Call) -> bodies.Domain:
    """The domain."""
    return bodies.Domain(
        id=DOMAIN_ID,
        name=DOMAIN_NAME,
        description="The default domain",
        enabled=True,
        tags=[],
        options={},
        links=links(call, f"domains/{DOMAIN_ID}"),
    )


def region(call: Call) -> bodies.Region:
    """The region."""
    return bodies.Region(id=REGION, description="", links=links(call, f"regions/{REGION}"))


def assignment(
    call: Call, grant: Grant, shown_role: Role, names: dict[str, str] | None
) -> bodies.Assignment:
    """A role assignment; `names` holds the names of users and projects by id, None = ids alone."""
    path = f"projects/{grant.project_id}/users/{grant.user_id}/roles/{grant.role.id}"
    in_domain = {"domain": {"id": DOMAIN_ID, "name": DOMAIN_NAME}}

    def placed(row_id: str) -> dict[str, Any]:
        if names is None:
            return {"id": row_id}
        return {"id": row_id, "name": names.get(row_id, "")} | in_domain

    role_shown = {"id": shown_role.id}
    if names is not None:
        role_shown["name"] = shown_role.name
    return bodies.Assignment(
        links=bodies.AssignmentLinks(assignment=f"{call.base_url}/v3/{path}"),
        scope=bodies.AssignmentProject(project=placed(grant.project_id)),
        user=placed(grant.user_id),
        role=role_shown,
    )


def credential(
    call: Call, found: ApplicationCredential, secret: str | None = None
) -> bodies.Credential:
    """An application credential, with its secret only when it was just made."""
    return bodies.Credential(
        id=found.id,
        name=found.name,
        description=found.description,
        user_id=found.user_id,
        project_id=found.project_id,
        # Without the Z that tokens have: so does Keystone.
        expires_at=None
        if found.expires_at is None
        else moment(found.expires_at.timestamp()).removesuffix("Z"),
        unrestricted=found.is_unrestricted,
        roles=[_role(role) for role in found.roles],
        secret=UNSET if secret is None else secret,
        links=links(call, f"users/{found.user_id}/application_credentials/{found.id}"),
    )


def version(call: Call) -> bodies.IdentityVersion:
    """The version of the Identity API: what Keystone calls v3.14, as far as it is spoken here."""
    return bodies.IdentityVersion(
        id="v3.14",
        status="stable",
        updated="2020-04-07T00:00:00Z",
        links=[bodies.IdentityVersionLink(rel="self", href=f"{call.base_url}/v3/")],
        media_types=[
            bodies.MediaType(
                base="application/json", type="application/vnd.openstack.identity-v3+json"
            )
        ],
    )


def links(call: Call, path: str) -> bodies.Links:
    """Where something below `/v3` is."""
    return bodies.Links(self=f"{call.base_url}/v3/{path}")


def page_links(call: Call, path: str) -> bodies.PageLinks:
    """Where a list below `/v3` is, with the query that was asked."""
    query = call.scope["query_string"].decode("ascii", "replace")
    return bodies.PageLinks(self=f"{call.base_url}/v3/{path}{f'?{query}' if query else ''}")
