"""Every setting: its key, its type, its default, and what it means.

Values come from one TOML file, then the environment (`TRANSOM_DATABASE__URL=…`, two underscores
between the parts of a key), then flags. Everything is checked at start; a wrong value is refused
with a message that names the key, the value and what would be right. Sizes are bytes, times are
seconds. `transom config show` prints the effective values with secrets masked.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from transom.errors import ConfigurationError

SECRET = "secret"
DISK_FORMATS = (
    "ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop",
)  # fmt: skip
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
_STORE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def doc(text: str, *, secret: bool = False) -> msgspec.Meta:
    """The documentation of one key; `secret` keeps its value out of everything printed."""
    return msgspec.Meta(description=text, extra={SECRET: secret})


Count = Annotated[int, msgspec.Meta(ge=-1)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Group(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One table of the configuration file."""


class Server(Group):
    """Where and how the service listens."""

    bind: Annotated[str, doc("Address and port to listen on, `host:port` or `[v6]:port`.")] = (
        "127.0.0.1:9292"
    )
    workers: Annotated[
        int,
        msgspec.Meta(ge=1, le=256),
        doc("Processes that serve requests. 1 serves from the main process itself."),
    ] = 1
    public_url: Annotated[
        str,
        doc("Base of absolute URLs in answers. Empty: scheme and host of the request."),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        doc("Addresses or networks whose `X-Forwarded-*` headers are believed."),
    ] = ()
    cors_allowed_origins: Annotated[
        tuple[str, ...], doc("Origins that browsers may call from; `*` allows all.")
    ] = ()
    healthcheck_disable_file: Annotated[
        str, doc("While this file exists, `/healthcheck` answers 503, to drain a replica.")
    ] = ""
    self_url: Annotated[str, doc("How other replicas reach this one.")] = ""
    shutdown_seconds: Annotated[
        Seconds,
        doc("How long running requests may take to finish after a stop signal, in seconds."),
    ] = 30.0


class Database(Group):
    """Where the catalog lives."""

    url: Annotated[
        str,
        doc(
            "`sqlite:///<path>` or `postgresql://user:password@host/name`. `<data>` stands for the "
            "data folder.",
            secret=True,
        ),
    ] = "sqlite:///<data>/transom.db"
    pool_size: Annotated[
        int,
        msgspec.Meta(ge=1, le=256),
        doc("Connections for reading each process keeps at most, and as many threads."),
    ] = 8
    statement_timeout_seconds: Annotated[
        Seconds, doc("Longest time of one statement on PostgreSQL, in seconds; 0 = no limit.")
    ] = 30.0


class Keystone(Group):
    """The Keystone that vouches for tokens (backend `keystone`)."""

    auth_url: Annotated[str, doc("Base URL of Keystone, with or without `/v3`.")] = ""
    username: Annotated[str, doc("Transom's own service user.")] = ""
    password: Annotated[str, doc("Password of the service user.", secret=True)] = ""
    project_name: Annotated[str, doc("Project of the service user.")] = "service"
    user_domain_name: Annotated[str, doc("Domain of the service user.")] = "Default"
    project_domain_name: Annotated[str, doc("Domain of the service project.")] = "Default"
    www_authenticate_uri: Annotated[
        str, doc("The URI in `WWW-Authenticate` of a 401. Empty: `auth_url`.")
    ] = ""
    token_cache_seconds: Annotated[
        Seconds, doc("How long a verdict about a token is believed, in seconds.")
    ] = 300.0
    use_limits: Annotated[bool, doc("Ask Keystone for unified limits.")] = False


class Identity(Group):
    """Who vouches for callers."""

    backend: Annotated[
        Literal["local", "keystone", "none"],
        doc(
            "`local`: built in. `keystone`: a Keystone. `none`: everyone is an administrator; "
            "refused unless `server.bind` is a loopback address."
        ),
    ] = "local"
    allow_anonymous: Annotated[
        bool, doc("Let requests without a valid token read what is open to all.")
    ] = False
    token_seconds: Annotated[
        Annotated[float, msgspec.Meta(ge=1)],
        doc("Life of a token of the local identity, in seconds."),
    ] = 43200.0
    keystone: Annotated[Keystone, doc("See `[identity.keystone]`.")] = Keystone()


class StoreSettings(Group):
    """One store: `[stores.NAME]`."""

    driver: Annotated[str, doc("`file`, `memory`, or another driver that is installed.")] = "file"
    path: Annotated[str, doc("Folder of a file store. `<data>` stands for the data folder.")] = ""
    description: Annotated[str, doc("Shown to users who discover stores.")] = ""
    weight: Annotated[int, doc("Locations in stores of higher weight are read first.")] = 0
    fsync: Annotated[
        bool,
        doc(
            "Make data durable on disk before an image becomes active. Turn off only where losing "
            "images at a power failure does not matter; Glance behaves as if it were off."
        ),
    ] = True
    options: Annotated[
        dict[str, Any], doc("Further keys of the driver, as the driver's page names them.")
    ] = msgspec.field(default_factory=dict)


class Stores(Group):
    """Where bytes live. Every further table `[stores.NAME]` is one store."""

    default: Annotated[str, doc("Name of the store that takes uploads which name none.")] = "main"
    staging: Annotated[str, doc("Store for staged data. Empty: the folder `<data>/staging`.")] = ""
    announce: Annotated[
        Literal["auto", "always", "never"],
        doc("Show the multi-store API: `auto` = with two or more stores."),
    ] = "auto"
    named: dict[str, StoreSettings] = msgspec.field(default_factory=dict)


class Imports(Group):
    """Imports: which ways, from where."""

    methods: Annotated[tuple[str, ...], doc("Import methods that are on, in this order.")] = (
        "glance-direct",
        "web-download",
        "copy-image",
        "glance-download",
    )
    plugins: Annotated[tuple[str, ...], doc("Import plugins, in this order.")] = ()
    convert_to: Annotated[str, doc("Format that imports are converted to. Empty: none.")] = ""
    allowed_schemes: Annotated[tuple[str, ...], doc("Schemes of URLs to import from.")] = (
        "http",
        "https",
    )
    allowed_ports: Annotated[tuple[int, ...], doc("Ports of such URLs; empty = all.")] = (80, 443)
    allowed_hosts: Annotated[
        tuple[str, ...], doc("Hosts of such URLs; empty = all public ones. May be private.")
    ] = ()
    disallowed_hosts: Annotated[tuple[str, ...], doc("Hosts that are refused.")] = ()


class LimitSettings(Group):
    """How much is allowed. Counts: -1 = unlimited. Bytes: 0 = unlimited."""

    image_size_bytes_max: Annotated[Bytes, doc("Largest image, in bytes.")] = 1099511627776
    page_size_default: Annotated[
        Annotated[int, msgspec.Meta(ge=1)], doc("Length of a page when no `limit` is given.")
    ] = 25
    page_size_max: Annotated[
        Annotated[int, msgspec.Meta(ge=1)], doc("Longest page; larger limits are cut to it.")
    ] = 1000
    image_properties_max: Annotated[Count, doc("Custom properties of one image.")] = 128
    image_tags_max: Annotated[Count, doc("Tags of one image.")] = 128
    image_members_max: Annotated[Count, doc("Members of one image.")] = 128
    image_locations_max: Annotated[Count, doc("Locations of one image.")] = 10
    project_bytes_max: Annotated[Bytes, doc("Bytes of all images of one project.")] = 0
    request_id_length_max: Annotated[
        Annotated[int, msgspec.Meta(ge=40)], doc("Longest request id taken from a caller.")
    ] = 64
    body_bytes_max: Annotated[
        Annotated[int, msgspec.Meta(ge=1024)], doc("Largest JSON body, in bytes.")
    ] = 16777216


class Images(Group):
    """What images show and how they are checked."""

    show_direct_url: Annotated[bool, doc("Show `direct_url`.")] = False
    show_multiple_locations: Annotated[
        bool, doc("Show `locations` and let clients patch them.")
    ] = False
    hash_algorithm: Annotated[
        str, doc("Algorithm of `os_hash_value` for new data: any name Python's hashlib knows.")
    ] = "sha512"
    hash_locations: Annotated[bool, doc("Hash the data of locations added by clients.")] = True
    default_visibility: Annotated[
        Literal["shared", "private"], doc("Visibility of images created without one.")
    ] = "shared"
    disk_formats: Annotated[tuple[str, ...], doc("Allowed values of `disk_format`.")] = DISK_FORMATS
    container_formats: Annotated[tuple[str, ...], doc("Allowed values of `container_format`.")] = (
        CONTAINER_FORMATS
    )
    verify_formats: Annotated[
        bool, doc("Refuse data that is not in the declared format. Unsafe data is always refused.")
    ] = True
    gpt_checks_nonfatal: Annotated[
        tuple[str, ...], doc("Safety checks of GPT disks that only warn: `mbr`.")
    ] = ()


class PolicySettings(Group):
    """Who may do what."""

    file: Annotated[str, doc("oslo.policy file (YAML or JSON) over the defaults.")] = ""
    property_protections: Annotated[str, doc("File of property protections.")] = ""
    property_protection_format: Annotated[
        Literal["roles", "policies"], doc("What that file's values are.")
    ] = "roles"
    enforce_scope: Annotated[bool, doc("Refuse tokens that are not scoped to a project.")] = True
    enforce_new_defaults: Annotated[bool, doc("Use the current default rules alone.")] = True


class Delete(Group):
    """How images go."""

    delayed: Annotated[bool, doc("Keep the data of deleted images for the scrubber.")] = False
    scrub_after_seconds: Annotated[Seconds, doc("Age at which the scrubber takes it.")] = 0.0


class Cache(Group):
    """A read-through cache in front of slow stores."""

    enabled: Annotated[bool, doc("Switch the cache and its API on.")] = False
    path: Annotated[str, doc("Folder of the cache.")] = "<data>/cache"
    size_bytes_max: Annotated[Bytes, doc("Largest size of the cache, in bytes.")] = 10737418240


class Compute(Group):
    """The Compute API's image view."""

    bind: Annotated[str, doc("Own address of the view. Empty: on `server.bind` only.")] = ""


class Metrics(Group):
    """Prometheus metrics."""

    bind: Annotated[str, doc("Own address of `/metrics`. Empty: none.")] = ""


class Settings(Group):
    """The whole configuration."""

    server: Server = Server()
    database: Database = Database()
    identity: Identity = Identity()
    stores: Stores = Stores()
    imports: Imports = Imports()
    limits: LimitSettings = LimitSettings()
    images: Images = Images()
    policy: PolicySettings = PolicySettings()
    delete: Delete = Delete()
    cache: Cache = Cache()
    compute: Compute = Compute()
    metrics: Metrics = Metrics()
    data: str = "data"

    @property
    def data_path(self) -> Path:
        """The data folder."""
        return Path(self.data)

    def announces_stores(self) -> bool:
        """True when the multi-store face of the API is shown."""
        if self.stores.announce == "auto":
            return sum(store.driver != "http" for store in self.stores.named.values()) > 1
        return self.stores.announce == "always"
