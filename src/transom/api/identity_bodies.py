"""What the identity face sends and takes, in the forms of the Identity API v3.

Requests are read through these types, so what the OpenAPI document says of them is what is checked;
keys that are not named here are ignored, as the Identity API does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from transom.api.route import Parameter

# No database column and no name of anything holds NUL.
_PLAIN = "^[^\\u0000]*$"
Text = Annotated[str, Meta(max_length=2048, pattern=_PLAIN)]
Id = Annotated[str, Meta(max_length=255, pattern=_PLAIN)]

# --- logging in ---------------------------------------------------------------------------------------


class DomainReference(Struct, kw_only=True):
    """A domain, by id or name. There is one: `default`, named `Default`."""

    id: Id | None = None
    name: Id | None = None


class UserReference(Struct, kw_only=True):
    """A user, by id, or by name and domain."""

    id: Id | None = None
    name: Id | None = None
    domain: DomainReference | None = None


class PasswordUser(UserReference, kw_only=True):
    """A user and the password."""

    password: Text


class PasswordMethod(Struct, kw_only=True):
    """Method `password`."""

    user: PasswordUser


class TokenMethod(Struct, kw_only=True):
    """Method `token`: a token is turned into one of another scope."""

    id: Text


class CredentialMethod(Struct, kw_only=True):
    """Method `application_credential`: by id, or by name and user."""

    id: Id | None = None
    name: Id | None = None
    user: UserReference | None = None
    secret: Text


class IdentityPart(Struct, kw_only=True):
    """Who logs in, and what proves it."""

    methods: Annotated[list[str], Meta(min_length=1, max_length=8)]
    password: PasswordMethod | None = None
    token: TokenMethod | None = None
    application_credential: CredentialMethod | None = None


class ProjectReference(Struct, kw_only=True):
    """A project, by id, or by name and domain."""

    id: Id | None = None
    name: Id | None = None
    domain: DomainReference | None = None


class Scope(Struct, kw_only=True):
    """What the token is for. Only projects have images, so only they are a scope here."""

    project: ProjectReference | None = None
    domain: dict[str, Any] | None = None
    system: dict[str, Any] | None = None
    trust: dict[str, Any] | None = field(default=None, name="OS-TRUST:trust")


class Auth(Struct, kw_only=True):
    """A login."""

    identity: IdentityPart
    scope: Scope | Literal["unscoped"] | None = None


class AuthRequest(Struct, kw_only=True):
    """The body of a login."""

    auth: Auth


# --- what is shown ------------------------------------------------------------------------------------


class Links(Struct, kw_only=True):
    """Where the thing itself is."""

    self: str


class PageLinks(Struct, kw_only=True):
    """Where this list is. Lists are whole, so there is no page before or after."""

    next: None = None
    self: str
    previous: None = None


class Named(Struct, kw_only=True):
    """Something, by id and name."""

    id: str
    name: str


class Placed(Struct, kw_only=True):
    """Something in a domain, by id and name."""

    domain: Named
    id: str
    name: str


class TokenUser(Placed, kw_only=True):
    """The user of a token."""

    password_expires_at: None = None


class TokenCredential(Struct, kw_only=True):
    """The application credential behind a token."""

    id: str
    name: str
    restricted: bool


class CatalogEndpoint(Struct, kw_only=True):
    """Where a service is reached."""

    id: str
    interface: str
    region_id: str
    region: str
    url: str


class CatalogService(Struct, kw_only=True):
    """A service of the catalog."""

    endpoints: list[CatalogEndpoint]
    id: str
    type: str
    name: str


class Token(Struct, kw_only=True):
    """What a token says."""

    methods: list[str]
    user: TokenUser
    audit_ids: list[str]
    expires_at: str
    issued_at: str
    project: Placed | UnsetType = UNSET
    is_domain: bool | UnsetType = UNSET
    roles: list[Named] | UnsetType = UNSET
    catalog: list[CatalogService] | UnsetType = UNSET
    application_credential: TokenCredential | UnsetType = UNSET


class TokenAnswer(Struct, kw_only=True):
    """A token."""

    token: Token


class CatalogAnswer(Struct, kw_only=True):
    """The services and where they are."""

    catalog: list[CatalogService]
    links: Links


class Project(Struct, kw_only=True):
    """A project."""

    id: str
    name: str
    domain_id: str
    description: str
    enabled: bool
    parent_id: str
    is_domain: bool
    tags: list[str]
    options: dict[str, Any]
    links: Links


class ProjectAnswer(Struct, kw_only=True):
    """A project."""

    project: Project


class ProjectsAnswer(Struct, kw_only=True):
    """Projects."""

    projects: list[Project]
    links: PageLinks


class User(Struct, kw_only=True):
    """A user."""

    id: str
    name: str
    domain_id: str
    enabled: bool
    password_expires_at: None = None
    options: dict[str, Any]
    default_project_id: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    email: str | UnsetType = UNSET
    links: Links


class UserAnswer(Struct, kw_only=True):
    """A user."""

    user: User


class UsersAnswer(Struct, kw_only=True):
    """Users."""

    users: list[User]
    links: PageLinks


class Role(Struct, kw_only=True):
    """A role."""

    id: str
    name: str
    domain_id: None = None
    description: None = None
    options: dict[str, Any]
    links: Links | UnsetType = UNSET


class RoleAnswer(Struct, kw_only=True):
    """A role."""

    role: Role


class RolesAnswer(Struct, kw_only=True):
    """Roles."""

    roles: list[Role]
    links: PageLinks


class Domain(Struct, kw_only=True):
    """A domain."""

    id: str
    name: str
    description: str
    enabled: bool
    tags: list[str]
    options: dict[str, Any]
    links: Links


class DomainAnswer(Struct, kw_only=True):
    """A domain."""

    domain: Domain


class DomainsAnswer(Struct, kw_only=True):
    """Domains."""

    domains: list[Domain]
    links: PageLinks


class Service(Struct, kw_only=True):
    """A service."""

    id: str
    name: str
    type: str
    enabled: bool
    links: Links


class ServiceAnswer(Struct, kw_only=True):
    """A service."""

    service: Service


class ServicesAnswer(Struct, kw_only=True):
    """Services."""

    services: list[Service]
    links: PageLinks


class Endpoint(CatalogEndpoint, kw_only=True):
    """Where a service is reached."""

    service_id: str
    enabled: bool
    links: Links


class EndpointAnswer(Struct, kw_only=True):
    """Where a service is reached."""

    endpoint: Endpoint


class EndpointsAnswer(Struct, kw_only=True):
    """Where services are reached."""

    endpoints: list[Endpoint]
    links: PageLinks


class Region(Struct, kw_only=True):
    """A region."""

    id: str
    description: str
    parent_region_id: None = None
    links: Links


class RegionAnswer(Struct, kw_only=True):
    """A region."""

    region: Region


class RegionsAnswer(Struct, kw_only=True):
    """Regions."""

    regions: list[Region]
    links: PageLinks


class AssignmentLinks(Struct, kw_only=True):
    """Where the assignment is."""

    assignment: str


class AssignmentProject(Struct, kw_only=True):
    """The project of an assignment."""

    project: dict[str, Any]


class Assignment(Struct, kw_only=True):
    """Who is what where; names only where they are asked for."""

    links: AssignmentLinks
    scope: AssignmentProject
    user: dict[str, Any]
    role: dict[str, Any]


class AssignmentsAnswer(Struct, kw_only=True):
    """Role assignments."""

    role_assignments: list[Assignment]
    links: PageLinks


class SystemAnswer(Struct, kw_only=True):
    """System scopes: none, here."""

    system: list[dict[str, Any]]
    links: Links


class Credential(Struct, kw_only=True):
    """An application credential. The secret is shown once, when it is made."""

    id: str
    name: str
    description: str | None
    user_id: str
    project_id: str
    system: None = None
    expires_at: str | None
    unrestricted: bool
    roles: list[Role]
    secret: str | UnsetType = UNSET
    links: Links


class CredentialAnswer(Struct, kw_only=True):
    """An application credential."""

    application_credential: Credential


class CredentialsAnswer(Struct, kw_only=True):
    """Application credentials."""

    application_credentials: list[Credential]
    links: PageLinks


class MediaType(Struct, kw_only=True):
    """A form in which the API speaks."""

    base: str
    type: str


class IdentityVersionLink(Struct, kw_only=True):
    """Where a version is."""

    rel: str
    href: str


class IdentityVersion(Struct, kw_only=True):
    """A version of the Identity API."""

    id: str
    status: str
    updated: str
    links: list[IdentityVersionLink]
    media_types: list[MediaType] = field(name="media-types")


class IdentityVersionAnswer(Struct, kw_only=True):
    """A version of the Identity API."""

    version: IdentityVersion


class IdentityVersionValues(Struct, kw_only=True):
    """Versions of the Identity API."""

    values: list[IdentityVersion]


class IdentityVersionsAnswer(Struct, kw_only=True):
    """The versions of the Identity API."""

    versions: IdentityVersionValues


# --- what is changed ------------------------------------------------------------------------------------


class RoleReference(Struct, kw_only=True):
    """A role, by id or name."""

    id: Id | None = None
    name: Id | None = None


class NewCredential(Struct, kw_only=True):
    """An application credential to make."""

    name: Id
    description: Text | None = None
    secret: Text | None = None
    expires_at: Text | None = None
    unrestricted: bool | None = None
    roles: list[RoleReference] | None = None
    access_rules: list[dict[str, Any]] | None = None


class NewCredentialRequest(Struct, kw_only=True):
    """An application credential to make."""

    application_credential: NewCredential


class NewProject(Struct, kw_only=True):
    """A project to make."""

    name: Id
    description: Text | None = None
    enabled: bool = True
    domain_id: Id | None = None
    parent_id: Id | None = None
    is_domain: bool = False


class NewProjectRequest(Struct, kw_only=True):
    """A project to make."""

    project: NewProject


class ProjectChange(Struct, kw_only=True):
    """What to change of a project."""

    name: Id | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class ProjectChangeRequest(Struct, kw_only=True):
    """What to change of a project."""

    project: ProjectChange


class NewUser(Struct, kw_only=True):
    """A user to make. Without a password nobody can log in as it."""

    name: Id
    password: Text | None = None
    description: Text | None = None
    email: Text | None = None
    enabled: bool = True
    domain_id: Id | None = None
    default_project_id: Id | None = None


class NewUserRequest(Struct, kw_only=True):
    """A user to make."""

    user: NewUser


class UserChange(Struct, kw_only=True):
    """What to change of a user."""

    name: Id | UnsetType = UNSET
    password: Text | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    email: Text | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    default_project_id: Id | UnsetType | None = UNSET


class UserChangeRequest(Struct, kw_only=True):
    """What to change of a user."""

    user: UserChange


class PasswordChange(Struct, kw_only=True):
    """The old password and the new one."""

    original_password: Text
    password: Text


class PasswordChangeRequest(Struct, kw_only=True):
    """The old password and the new one."""

    user: PasswordChange


class NewRole(Struct, kw_only=True):
    """A role to make."""

    name: Id
    description: Text | None = None
    domain_id: Id | None = None


class NewRoleRequest(Struct, kw_only=True):
    """A role to make."""

    role: NewRole


# --- parameters -----------------------------------------------------------------------------------------


def _query(name: str, text: str, **schema: Any) -> Parameter:
    return Parameter(name, text, {"type": "string"} | schema)


NAME = _query("name", "Only those of this name.")
DOMAIN = _query("domain_id", "Only those of this domain; there is one, `default`.")
ENABLED = _query("enabled", "Only those that are enabled, or are not.", type="boolean")
NOCATALOG = _query("nocatalog", "Leave the catalog out of the answer.")
ALLOW_EXPIRED = _query(
    "allow_expired", "Show a token that ended less than two days ago, to services.", type="boolean"
)
SUBJECT = Parameter("x-subject-token", "The token in question.", {"type": "string"}, where="header")
ASSIGNMENT_PARAMETERS = (
    _query("user.id", "Only those of this user."),
    _query("scope.project.id", "Only those in this project."),
    _query("role.id", "Only those of this role."),
    _query("effective", "Show implied roles too."),
    _query("include_names", "Show names beside ids."),
)
SERVICE_PARAMETERS = (
    _query("name", "Only those of this name."),
    _query("type", "Only those of this type."),
)
ENDPOINT_PARAMETERS = (
    _query("service_id", "Only those of this service."),
    _query("interface", "Only those of this interface: public, internal or admin."),
    _query("region_id", "Only those in this region."),
)
