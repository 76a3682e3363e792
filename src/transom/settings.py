"""Every setting: its key, its type, its default, and what it means.

Values come from one TOML file, then the environment (`TRANSOM_DATABASE__URL=…`, two underscores
between the parts of a key), then flags. Everything is checked at start; a wrong value is refused
with a message that names the key, the value and what would be right. Sizes are bytes, times are
seconds. `transom config show` prints the effective values with secrets masked.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec

from transom.errors import ConfigurationError

MASKED = "masked"
READ_ONLY_DRIVER = "http"
"""The driver of stores that nothing can be put into."""
DISK_FORMATS = (
    "ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop",
)  # fmt: skip
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
)
_PROXY = re.compile(r"http://([^\s/@]+@)?(\[[0-9A-Fa-f:.]+\]|[^\s/@:\[\]]+):\d{1,5}/?")
_STORE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def doc(text: str, *, secret: bool = False) -> msgspec.Meta:
    """The documentation of one key; `secret` keeps its value out of everything printed."""
    return msgspec.Meta(description=text, extra={MASKED: secret})


Count = Annotated[int, msgspec.Meta(ge=-1)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
ConvertTo = Literal["", "raw", "qcow2", "vmdk", "vhdx"]


class Group(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One table of the configuration file."""


class Server(Group, frozen=True):
    """Where and how the service listens."""

    bind: Annotated[str, doc("Address and port to listen on, `host:port` or `[v6]:port`.")] = (
        "127.0.0.1:9292"
    )
    workers: Annotated[
        int,
        msgspec.Meta(ge=1, le=256),
        doc("Processes that serve requests. 1 serves from the main process itself."),
    ] = 1
    worker: Annotated[
        bool,
        doc(
            "Work on tasks (imports, copies) too. With `false` other processes must: `transom worker`, "
            "or replicas that do."
        ),
    ] = True
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
    gzip_bytes_min: Annotated[
        Bytes,
        doc(
            "JSON answers of this length or more, in bytes, are compressed for clients that accept "
            "gzip; 0 = none are."
        ),
    ] = 65536
    tls_certificate: Annotated[
        str,
        doc(
            "File with the certificate chain (PEM) to serve HTTPS with; read again when it changes. "
            "Empty: HTTP."
        ),
    ] = ""
    tls_key: Annotated[str, doc("File with the certificate's private key (PEM).")] = ""
    tls_version_min: Annotated[
        Literal["1.2", "1.3"], doc("Oldest version of TLS that clients may use.")
    ] = "1.2"
    healthcheck_disable_file: Annotated[
        str, doc("While this file exists, `/healthcheck` answers 503, to drain a replica.")
    ] = ""
    self_url: Annotated[str, doc("How other replicas reach this one.")] = ""
    shutdown_seconds: Annotated[
        Seconds,
        doc("How long running requests may take to finish after a stop signal, in seconds."),
    ] = 10.0
    drain_seconds: Annotated[
        Seconds,
        doc(
            "How long new requests are still taken after a stop signal, in seconds, while `/readyz` "
            "answers 503, so that load balancers send them elsewhere. Then `shutdown_seconds` begin."
        ),
    ] = 0.0


class Database(Group, frozen=True):
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
    write_pool_size: Annotated[
        int,
        msgspec.Meta(ge=1, le=256),
        doc("Connections for writing each process keeps at most on PostgreSQL; SQLite has one."),
    ] = 4
    pool_wait_seconds: Annotated[
        Seconds,
        doc("Longest wait for a connection that other requests use, in seconds; 0 = no limit."),
    ] = 30.0
    connect_timeout_seconds: Annotated[
        Seconds,
        doc("Longest time of opening a connection to PostgreSQL, in seconds; 0 = no limit."),
    ] = 5.0
    statement_timeout_seconds: Annotated[
        Seconds, doc("Longest time of one statement on PostgreSQL, in seconds; 0 = no limit.")
    ] = 30.0
    lock_timeout_seconds: Annotated[
        Seconds,
        doc(
            "Longest wait of a write for another one, in seconds; 0 = no limit. On PostgreSQL for "
            "one row, on SQLite for another process's write."
        ),
    ] = 10.0
    idle_transaction_timeout_seconds: Annotated[
        Seconds,
        doc(
            "When PostgreSQL ends a transaction whose process stands still, in seconds; 0 = never. "
            "Until then others wait for what it holds."
        ),
    ] = 60.0
    outage_seconds: Annotated[
        Seconds,
        doc(
            "How long requests wait for a PostgreSQL that is away, in seconds, before they are "
            "answered with 503: a restart that is shorter is not noticed. 0 = not at all."
        ),
    ] = 3.0


class Keystone(Group, frozen=True):
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


class Identity(Group, frozen=True):
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


class StoreSettings(Group, frozen=True):
    """One store: `[stores.NAME]`."""

    driver: Annotated[
        str,
        doc(
            "`file`, `s3`, `gcs`, `azure`, `glance_store` (Ceph RBD, Swift, Cinder), `memory`, or "
            "`http` (read-only: locations on web servers). Each has a page with its own keys."
        ),
    ] = "file"
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
    convert_to: Annotated[
        ConvertTo,
        doc(
            "Format that imports into this store are converted to. Empty: as "
            "`imports.convert_to` says."
        ),
    ] = ""
    options: Annotated[
        dict[str, Any], doc("Further keys of the driver, as the driver's page names them.")
    ] = msgspec.field(default_factory=dict)


class Stores(Group, frozen=True):
    """Where bytes live. Every further table `[stores.NAME]` is one store."""

    default: Annotated[str, doc("Name of the store that takes uploads which name none.")] = "main"
    staging: Annotated[str, doc("Store for staged data. Empty: the folder `<data>/staging`.")] = ""
    announce: Annotated[
        Literal["auto", "always", "never"],
        doc("Show the multi-store API: `auto` = with two or more stores."),
    ] = "auto"
    named: dict[str, StoreSettings] = msgspec.field(default_factory=dict)


class Imports(Group, frozen=True):
    """Imports: which ways, from where."""

    methods: Annotated[tuple[str, ...], doc("Import methods that are on, in this order.")] = (
        "glance-direct",
        "web-download",
        "copy-image",
        "glance-download",
    )
    plugins: Annotated[
        tuple[str, ...],
        doc(
            "What is done to imported data on its way to the stores, in this order: "
            "`image_decompression`, `image_conversion`, `inject_image_metadata`, `no_op`."
        ),
    ] = ()
    download_properties: Annotated[
        tuple[str, ...],
        doc("glance-download: beginnings of the names of custom properties that come along."),
    ] = ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type")
    tasks_max: Annotated[
        Annotated[int, msgspec.Meta(ge=1)],
        doc("Tasks that one process works on at a time."),
    ] = 4
    task_hours: Annotated[
        Annotated[float, msgspec.Meta(gt=0)],
        doc("How long a task can be looked up after its end, in hours."),
    ] = 48.0
    convert_to: Annotated[
        ConvertTo,
        doc(
            "Format that imports are converted to, by `qemu-img`. Empty: none, or `raw` if "
            "`plugins` names `image_conversion`. Where `plugins` does not, converting comes last."
        ),
    ] = ""
    decompression_ratio_max: Annotated[
        Annotated[int, msgspec.Meta(ge=0)],
        doc(
            "How many times its size an archive may unpack to, beyond 64 MiB; 0 = any. "
            "`limits.image_size_bytes_max` holds too."
        ),
    ] = 200
    conversion_memory_bytes_max: Annotated[
        Annotated[int, msgspec.Meta(ge=268435456)],
        doc("Address space of one `qemu-img`, in bytes."),
    ] = 2147483648
    conversion_cpu_seconds_max: Annotated[
        Annotated[int, msgspec.Meta(ge=1)],
        doc("Processor time that converting one image may take, in seconds."),
    ] = 14400
    inject: Annotated[
        dict[str, str],
        doc("Properties that `inject_image_metadata` sets, over those that the image has."),
    ] = msgspec.field(default_factory=dict)
    inject_ignore_roles: Annotated[
        tuple[str, ...], doc("Roles whose imports `inject_image_metadata` leaves alone.")
    ] = ("admin",)
    allowed_schemes: Annotated[
        tuple[Literal["http", "https"], ...],
        doc("Schemes of URLs that Transom reads from; empty = both."),
    ] = ("http", "https")
    allowed_ports: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=65535)], ...],
        doc("Ports of such URLs, the scheme's own where they name none; empty = all."),
    ] = (80, 443)
    allowed_hosts: Annotated[
        tuple[str, ...],
        doc(
            "Names, addresses and networks of such URLs, and no others; these may be private. `*` "
            "stands for all public hosts. Empty = all public hosts."
        ),
    ] = ()
    disallowed_hosts: Annotated[
        tuple[str, ...],
        doc("Names, addresses and networks to refuse among the public hosts."),
    ] = ()
    proxy: Annotated[
        str,
        doc(
            "HTTP proxy to read URLs through, `http://[user:password@]host:port`. `environment`: as "
            "HTTP_PROXY, HTTPS_PROXY and NO_PROXY say. Empty: none.",
            secret=True,
        ),
    ] = ""
    connect_timeout_seconds: Annotated[
        Annotated[float, msgspec.Meta(gt=0)],
        doc("Longest time to find and reach the host of a URL, in seconds."),
    ] = 10.0
    read_timeout_seconds: Annotated[
        Annotated[float, msgspec.Meta(gt=0)],
        doc("Longest time to wait for an answer, or for the next bytes of one, in seconds."),
    ] = 30.0
    rate_bytes_min: Annotated[
        Bytes,
        doc(
            "Bytes a second below which a source counts as broken, over `read_timeout_seconds`; "
            "0 = none."
        ),
    ] = 1024
    retries_max: Annotated[
        Annotated[int, msgspec.Meta(ge=0)],
        doc(
            "Failures in a row, without a mebibyte between them, that are tried again before a "
            "source is given up."
        ),
    ] = 8
    retry_seconds: Annotated[
        Seconds,
        doc(
            "Bound of the first pause before a retry, in seconds. It doubles with each failure, and "
            "the pause is a random part of it."
        ),
    ] = 0.5
    retry_seconds_max: Annotated[
        Seconds,
        doc("Longest pause before a retry, also where the source asks for more, in seconds."),
    ] = 60.0
    parallel_ranges: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=16)],
        doc(
            "Connections to read one large source with, where it allows that; each takes up to "
            "4 MiB of memory."
        ),
    ] = 4


class LimitSettings(Group, frozen=True):
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


class Images(Group, frozen=True):
    """What images show and how they are checked."""

    show_direct_url: Annotated[bool, doc("Show `direct_url`.")] = False
    show_multiple_locations: Annotated[
        bool, doc("Show `locations` and let clients patch them.")
    ] = False
    hash_algorithm: Annotated[
        str, doc("Algorithm of `os_hash_value` for new data: any name Python's hashlib knows.")
    ] = "sha512"
    hash_locations: Annotated[
        bool, doc("Hash the data of locations that are added by `POST …/locations`.")
    ] = True
    hash_tries: Annotated[
        Annotated[int, msgspec.Meta(ge=1)],
        doc("How often such data is read before its hash is given up."),
    ] = 3
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


class PolicySettings(Group, frozen=True):
    """Who may do what."""

    file: Annotated[str, doc("oslo.policy file (YAML or JSON) over the defaults.")] = ""
    property_protections: Annotated[str, doc("File of property protections.")] = ""
    property_protection_format: Annotated[
        Literal["roles", "policies"], doc("What that file's values are.")
    ] = "roles"
    enforce_scope: Annotated[bool, doc("Refuse tokens that are not scoped to a project.")] = True
    enforce_new_defaults: Annotated[bool, doc("Use the current default rules alone.")] = True


class Delete(Group, frozen=True):
    """How images go."""

    delayed: Annotated[bool, doc("Keep the data of deleted images for the scrubber.")] = False
    scrub_after_seconds: Annotated[Seconds, doc("Age at which the scrubber takes it.")] = 0.0


class SignatureSettings(Group, frozen=True):
    """Verification of images that are signed."""

    certificates: Annotated[
        Literal["folder", "barbican"],
        doc("Where certificates come from: a folder of trusted ones, or OpenStack's key manager."),
    ] = "folder"
    folder: Annotated[str, doc("Folder with the trusted certificates, `<id>.pem` each.")] = (
        "<data>/certificates"
    )
    barbican_url: Annotated[
        str, doc("Where Barbican is. Empty: as the caller's service catalogue says.")
    ] = ""


class Cache(Group, frozen=True):
    """A read-through cache in front of slow stores."""

    enabled: Annotated[bool, doc("Switch the cache and its API on.")] = False
    path: Annotated[str, doc("Folder of the cache.")] = "<data>/cache"
    size_bytes_max: Annotated[Bytes, doc("Largest size of the cache, in bytes.")] = 10737418240


class Compute(Group, frozen=True):
    """The Compute API's image view."""

    bind: Annotated[str, doc("Own address of the view. Empty: on `server.bind` only.")] = ""
    public_url: Annotated[
        str,
        doc("Base of the view's links, without version. Empty: scheme and host of the request."),
    ] = ""


class Audit(Group, frozen=True):
    """The audit log: what was changed or refused, by whom."""

    path: Annotated[
        str,
        doc(
            "File that gets a line of JSON (CADF) for each request that changes something or is "
            "refused. Empty: none."
        ),
    ] = ""


class Webhook(Group, frozen=True):
    """One receiver of events as CloudEvents: `[notifications.webhooks.NAME]`."""

    url: Annotated[
        str,
        doc("Where events are posted to. It may be private: it is the operator's own."),
    ] = ""
    secret: Annotated[
        str,
        doc(
            "Key that what is posted is signed with (HMAC-SHA256): `whsec_` and base64, or any text.",
            secret=True,
        ),
    ] = ""
    events: Annotated[
        tuple[str, ...],
        doc("Names or groups of events to post: `image.create`, `image`, `task`. Empty: all."),
    ] = ()


class Amqp(Group, frozen=True):
    """The message bus that gets events as Glance sends them; needs the extra `notifications`."""

    url: Annotated[
        str,
        doc(
            "oslo.messaging's transport URL: `rabbit://user:password@host:5672/`. Empty: none.",
            secret=True,
        ),
    ] = ""
    topics: Annotated[
        tuple[str, ...],
        doc("Topics; an event goes to the queue `TOPIC.info` or `TOPIC.error` of each."),
    ] = ("notifications",)
    publisher_id: Annotated[str, doc("What events say they come from.")] = "image.localhost"
    exchange: Annotated[str, doc("The exchange that events go through.")] = "glance"
    options_file: Annotated[
        str,
        doc(
            "File with further options of oslo.messaging, such as `[oslo_messaging_rabbit] ssl` or "
            "`rabbit_quorum_queue`, as other services of the cloud have them. Empty: its defaults."
        ),
    ] = ""
    envelope: Annotated[
        bool, doc("Wrap events as oslo.messaging's driver `messagingv2` does; false: `messaging`.")
    ] = True
    events: Annotated[tuple[str, ...], doc("Names or groups of events to send. Empty: all.")] = ()


class Notifications(Group, frozen=True):
    """Events: what is told to others. Nothing is, and nothing is slower for it, without a target."""

    disabled: Annotated[
        tuple[str, ...],
        doc(
            "Names or groups of events that nobody is told of: `image.send`, `image.member`, `task`."
        ),
    ] = ()
    timeout_seconds: Annotated[
        Annotated[float, msgspec.Meta(gt=0, le=60)],
        doc("Longest time that a receiver may take for one event, in seconds."),
    ] = 10.0
    tries_max: Annotated[
        Annotated[int, msgspec.Meta(ge=1)],
        doc(
            "How often an event is tried before it is laid aside for `transom events`. While the "
            "receiver is away, tries do not count."
        ),
    ] = 16
    keep_hours: Annotated[
        Annotated[float, msgspec.Meta(gt=0)],
        doc(
            "How long an event waits for a receiver that is away, in hours; then it is laid aside."
        ),
    ] = 72.0
    retry_seconds: Annotated[
        Annotated[float, msgspec.Meta(gt=0)],
        doc("Pause before the second try, in seconds. It doubles with each further one."),
    ] = 1.0
    retry_seconds_max: Annotated[
        Annotated[float, msgspec.Meta(gt=0)], doc("Longest pause between two tries, in seconds.")
    ] = 3600.0
    webhooks: dict[str, Webhook] = msgspec.field(default_factory=dict)
    amqp: Annotated[Amqp, doc("See `[notifications.amqp]`.")] = Amqp()


class Metrics(Group, frozen=True):
    """Prometheus metrics."""

    bind: Annotated[
        str,
        doc(
            "Own address of `/metrics`, for `transom serve` and `transom worker` alike. Whoever "
            "reaches it may read it. Empty: none."
        ),
    ] = ""


class Tracing(Group, frozen=True):
    """OpenTelemetry traces; needs the extra `tracing`. The variables `OTEL_*` of OpenTelemetry say
    what is not said here."""

    endpoint: Annotated[
        str,
        doc(
            "Where traces are sent to by OTLP over HTTP, for example `http://127.0.0.1:4318`. Empty: "
            "what `OTEL_EXPORTER_OTLP_ENDPOINT` says, and without that there are none."
        ),
    ] = ""
    sample_ratio: Annotated[
        float,
        msgspec.Meta(ge=0, le=1),
        doc(
            "Share of the requests that are traced, where whoever calls does not say: 0 to 1. "
            "`OTEL_TRACES_SAMPLER` goes before it."
        ),
    ] = 1.0


class Logging(Group, frozen=True):
    """What is written to standard error."""

    format: Annotated[
        Literal["auto", "json", "text"],
        doc(
            "A JSON object a line, or text for people. `auto`: text on a terminal, JSON elsewhere."
        ),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], doc("The least that is written.")
    ] = "info"


class Settings(Group, frozen=True):
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
    signatures: SignatureSettings = SignatureSettings()
    cache: Cache = Cache()
    compute: Compute = Compute()
    notifications: Notifications = Notifications()
    audit: Audit = Audit()
    metrics: Metrics = Metrics()
    tracing: Tracing = Tracing()
    logging: Logging = Logging()
    data: str = "data"

    @property
    def data_path(self) -> Path:
        """The data folder."""
        return Path(self.data)

    def announces_stores(self) -> bool:
        """True when the multi-store face of the API is shown."""
        if self.stores.announce == "auto":
            return sum(store.driver != READ_ONLY_DRIVER for store in self.stores.named.values()) > 1
        return self.stores.announce == "always"


_STORES_KEYS = frozenset(field.name for field in msgspec.structs.fields(Stores)) - {"named"}


def load(
    config: Path | None = None,
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """The settings of one file, the environment over it, and flags (dotted keys) over that.

    `data` is the data folder; it stands in for `<data>` in every value. Raises ConfigurationError
    with the key, the value and what would be right.
    """
    tree: dict[str, Any] = {}
    if config is not None:
        try:
            tree = tomllib.loads(config.read_text(encoding="utf-8"))
        except OSError as missing:
            raise ConfigurationError(
                f"Cannot read the configuration file {config}: {missing.strerror}."
            ) from missing
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as broken:
            raise ConfigurationError(f"{config} is not valid TOML: {broken}.") from broken
    for name, text in sorted((environment or {}).items()):
        if name.startswith("TRANSOM_") and "__" in name:
            _put(tree, name.removeprefix("TRANSOM_").lower().split("__"), text, f"variable {name}")
    for key, value in (flags or {}).items():
        _put(tree, key.split("."), value, f"flag {key}")
    if data is not None:
        tree["data"] = str(data)
    folder = Path(str(tree.get("data", "data"))).expanduser().absolute()
    tree["data"] = str(folder)
    tree = cast("dict[str, Any]", _fill(tree, str(folder)))
    _gather_stores(tree, folder)
    _read_texts(tree, Settings)
    try:
        settings = msgspec.convert(tree, Settings)
    except msgspec.ValidationError as wrong:
        raise ConfigurationError(_explain(wrong, tree)) from wrong
    _check(settings)
    return settings


def _put(tree: dict[str, Any], parts: list[str], value: object, source: str) -> None:
    table = tree
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"The {source} names a key below a value; check its spelling.")
    table[parts[-1]] = value


def _fill(value: object, folder: str) -> object:
    match value:
        case str():
            return value.replace("<data>", folder)
        case dict():
            return {key: _fill(item, folder) for key, item in value.items()}
        case list():
            return [_fill(item, folder) for item in value]
        case _:
            return value


def _gather_stores(tree: dict[str, Any], folder: Path) -> None:
    stores = tree.get("stores", {})
    if not isinstance(stores, dict):
        raise ConfigurationError("`stores` must be a table.")
    named: dict[str, Any] = {}
    for name in [name for name in stores if name not in _STORES_KEYS]:
        if not isinstance(stores[name], dict):
            raise ConfigurationError(
                f"stores.{name} = {stores[name]!r}: unknown key; a store is a table [stores.{name}]."
            )
        named[name] = _gather_options(stores.pop(name))
    if all(store.get("driver") == READ_ONLY_DRIVER for store in named.values()):
        # Locations elsewhere come on top of the place that takes data.
        named = {"main": {}} | named
    stores["named"] = named
    for name, store in stores["named"].items():
        if store.get("driver", "file") == "file" and not store.get("path"):
            store["path"] = str(folder / ("images" if name == "main" else f"images-{name}"))
    tree["stores"] = stores | {"staging": stores.get("staging", "")}
    defaults = Settings(
        stores=Stores(named={}), database=Database(url=f"sqlite:///{folder}/transom.db")
    )
    tree.setdefault("database", {}).setdefault("url", defaults.database.url)
    tree.setdefault("cache", {}).setdefault("path", str(folder / "cache"))
    tree.setdefault("signatures", {}).setdefault("folder", str(folder / "certificates"))


def _gather_options(store: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in msgspec.structs.fields(StoreSettings)}
    options = dict(store.get("options", {}))
    options |= {key: value for key, value in store.items() if key not in known}
    kept = {key: value for key, value in store.items() if key in known}
    return kept | ({"options": options} if options else {})


def _each_of(kind: Any) -> type[Group] | None:
    """The group that stands under each name of a table of groups."""
    if typing.get_origin(kind) is not dict:
        return None
    each = typing.get_args(kind)[1]
    return each if isinstance(each, type) and issubclass(each, Group) else None


def _plain(kind: Any) -> Any:
    while typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    return kind


def _read_texts(tree: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    """Turn the texts of environment variables into the types that their keys want."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for key, value in tree.items():
        wanted = _plain(hints.get(key))
        if isinstance(value, dict):
            if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
                _read_texts(value, wanted)
            elif (each := _each_of(wanted)) is not None:
                for named in value.values():
                    if isinstance(named, dict):
                        _read_texts(named, each)
        elif isinstance(value, str):
            if typing.get_origin(wanted) is tuple:
                item = _plain(typing.get_args(wanted)[0])
                words = [word.strip() for word in value.split(",") if word.strip()]
                tree[key] = [_scalar(word, item) for word in words]
            else:
                tree[key] = _scalar(value, wanted)


def _scalar(text: str, wanted: Any) -> object:
    if wanted in (int, float, bool):
        try:
            return msgspec.convert(text.lower(), wanted, strict=False)
        except msgspec.ValidationError:
            return text
    return text


def _explain(wrong: msgspec.ValidationError, tree: dict[str, Any]) -> str:
    text, _, path = str(wrong).partition(" - at `$")
    key = path.rstrip("`").lstrip(".").replace("stores.named[...]", "stores.<name>")
    key = key.replace("webhooks[...]", "webhooks.<name>")
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    unknown = re.search(r"unknown field `(\w+)`", text)
    if unknown:
        where = f"{key}.{unknown[1]}" if key else unknown[1]
        return f"{where}: there is no such key; see the configuration reference for the right one."
    shown = "" if value is None or isinstance(value, dict) else f" = {value!r}"
    return f"{key}{shown}: {text[0].lower()}{text[1:]}."


def host_and_port(bind: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`, taken apart. Raises ValueError."""
    host, separator, port = bind.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ValueError(bind)
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104


def is_loopback(host: str) -> bool:
    """True for `localhost` and the addresses that never leave the machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check(settings: Settings) -> None:
    stores = settings.stores
    for name in stores.named:
        if not _STORE_NAME.fullmatch(name) or name.startswith("os_glance_"):
            raise ConfigurationError(
                f"stores.{name}: a store's name has 1 to 64 letters, digits, dots, dashes or "
                "underscores and does not start with os_glance_."
            )
    for key, name in (("default", stores.default), ("staging", stores.staging)):
        if name not in stores.named and (name or key == "default"):
            known = ", ".join(stores.named)
            raise ConfigurationError(
                f"stores.{key} = {name!r}: no store has this name; configured: {known}."
            )
        if name in stores.named and stores.named[name].driver == READ_ONLY_DRIVER:
            raise ConfigurationError(
                f"stores.{key} = {name!r}: this store is read-only; name one that takes data."
            )
    for key, bind in (
        ("server", settings.server.bind),
        ("compute", settings.compute.bind),
        ("metrics", settings.metrics.bind),
    ):
        if not bind and key != "server":
            continue
        try:
            host, _ = host_and_port(bind)
        except ValueError as wrong:
            raise ConfigurationError(
                f"{key}.bind = {bind!r}: give host:port, for example 127.0.0.1:9292."
            ) from wrong
        if key == "server" and settings.identity.backend == "none" and not is_loopback(host):
            raise ConfigurationError(
                f"server.bind = {bind!r}: with identity.backend = 'none' everyone is an "
                "administrator, so only a loopback address is allowed."
            )
    server = settings.server
    if bool(server.tls_certificate) != bool(server.tls_key):
        raise ConfigurationError(
            "server.tls_certificate and server.tls_key go together: set both, or none."
        )
    for origin in server.cors_allowed_origins:
        if origin != "*" and not re.fullmatch(r"https?://[^\s/?#*]+", origin):
            raise ConfigurationError(
                f"server.cors_allowed_origins: {origin!r} is no origin; give for example "
                "https://horizon.example.org, without a path, or *."
            )
    _check_images(settings)
    _check_imports(settings.imports)
    _check_notifications(settings.notifications)
    scheme = settings.database.url.partition(":")[0]
    if scheme not in ("sqlite", "postgresql"):
        raise ConfigurationError(
            f"database.url: scheme {scheme!r} is not known; use sqlite:///… or postgresql://…."
        )
    for key, url in (
        ("server.public_url", settings.server.public_url),
        ("server.self_url", settings.server.self_url),
        ("compute.public_url", settings.compute.public_url),
        ("tracing.endpoint", settings.tracing.endpoint),
    ):
        if url and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
            raise ConfigurationError(f"{key} = {url!r}: give http://host or https://host.")
    for network in settings.server.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as wrong:
            raise ConfigurationError(
                f"server.trusted_proxies: {network!r} is neither an address nor a network."
            ) from wrong
    limits = settings.limits
    if limits.page_size_default > limits.page_size_max:
        raise ConfigurationError(
            f"limits.page_size_default = {limits.page_size_default}: must not be larger than "
            f"limits.page_size_max = {limits.page_size_max}."
        )


def _check_images(settings: Settings) -> None:
    algorithm = settings.images.hash_algorithm
    try:
        digest_size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    except ValueError as unknown:
        raise ConfigurationError(
            f"images.hash_algorithm = {algorithm!r}: not known to this Python; use one of "
            f"{', '.join(sorted(hashlib.algorithms_available))}."
        ) from unknown
    if digest_size == 0 or len(algorithm) > 64:
        raise ConfigurationError(
            f"images.hash_algorithm = {algorithm!r}: an algorithm with a fixed length is needed, "
            "for example sha512."
        )


def _check_imports(imports: Imports) -> None:
    for key, hosts in (
        ("allowed_hosts", imports.allowed_hosts),
        ("disallowed_hosts", imports.disallowed_hosts),
    ):
        for host in hosts:
            if not (host == "*" and key == "allowed_hosts") and not _is_host(host):
                raise ConfigurationError(
                    f"imports.{key}: {host!r} is neither a host name, an address nor a network; "
                    "give for example mirror.example.org, 192.0.2.7 or 10.1.0.0/16."
                )
    if imports.proxy not in ("", "environment") and not _PROXY.fullmatch(imports.proxy):
        raise ConfigurationError(
            "imports.proxy: give http://host:port, with user:password@ before the host if the "
            "proxy asks for them, or environment."
        )


def _check_notifications(notifications: Notifications) -> None:
    for name, webhook in notifications.webhooks.items():
        key = f"notifications.webhooks.{name}"
        if not _STORE_NAME.fullmatch(name) or name == "amqp":
            raise ConfigurationError(
                f"{key}: a name has 1 to 64 letters, digits, dots, dashes or underscores, and is "
                "not amqp."
            )
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s#]*)?", webhook.url):
            raise ConfigurationError(
                f"{key}.url: give an http or https URL without a user, a password or a fragment."
            )
        if not webhook.secret:
            raise ConfigurationError(
                f"{key}.secret: give a key, so that the receiver can tell events from forgeries."
            )
        if webhook.secret.startswith("whsec_"):
            try:
                base64.b64decode(webhook.secret.removeprefix("whsec_"), validate=True)
            except ValueError as wrong:
                raise ConfigurationError(
                    f"{key}.secret: what follows whsec_ must be base64."
                ) from wrong
    amqp = notifications.amqp
    if amqp.url and not re.fullmatch(r"[a-z][a-z0-9+]*://\S*", amqp.url):
        raise ConfigurationError(
            "notifications.amqp.url: give a transport URL, for example "
            "rabbit://user:password@host:5672/."
        )
    if amqp.url and not amqp.topics:
        raise ConfigurationError("notifications.amqp.topics is empty; name a topic.")


def _is_host(text: str) -> bool:
    """True for a network, an address, and a name that cannot be taken for either."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        name = text.lower().removesuffix(".")
        return bool(_HOST_NAME.fullmatch(name)) and not name.rpartition(".")[2].isdecimal()
    return True


def options() -> Iterator[tuple[str, str, object, str, bool]]:
    """Every key as (dotted name, type, default, documentation, is secret), in order."""
    for group in msgspec.structs.fields(Settings):
        kind = _plain(group.type)
        if isinstance(kind, type) and issubclass(kind, Group):
            yield from _options_of(group.name, kind)


def _options_of(prefix: str, kind: type[Group]) -> Iterator[tuple[str, str, object, str, bool]]:
    for field in msgspec.structs.fields(kind):
        inner = _plain(field.type)
        name = f"{prefix}.{field.name}"
        if isinstance(inner, type) and issubclass(inner, Group):
            yield from _options_of(name, inner)
        elif (each := _each_of(inner)) is not None:
            table = prefix if field.name == "named" else name
            yield from _options_of(f"{table}.NAME", each)
        else:
            info = msgspec.inspect.type_info(field.type)
            text, secret = "", False
            while isinstance(info, msgspec.inspect.Metadata):
                text = text or (info.extra_json_schema or {}).get("description", "")
                secret = secret or bool((info.extra or {}).get(MASKED))
                info = info.type
            default = (
                field.default_factory()
                if field.default_factory is not msgspec.NODEFAULT
                else field.default
            )
            yield name, _type_name(inner), default, text, secret


def _type_name(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin is Literal:
        return " or ".join(f"`{value}`" if value else "empty" for value in typing.get_args(kind))
    if origin is tuple:
        return f"list of {_type_name(_plain(typing.get_args(kind)[0]))}"
    if origin is dict and typing.get_args(kind)[1] is str:
        return "table of text"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}.get(kind, "table")


def shown(settings: Settings) -> str:
    """The effective settings as TOML, secrets masked."""
    secrets = {name for name, _, _, _, secret in options() if secret}
    lines: list[str] = []
    kinds: dict[str, str] = {}

    def write(table: str, value: Group) -> None:
        lines.append(f"[{table}]")
        later: list[tuple[str, Group]] = []
        for field in msgspec.structs.fields(value):
            item = getattr(value, field.name)
            key = f"{table}.{field.name}"
            if isinstance(item, Group):
                later.append((key, item))
            elif _each_of(_plain(field.type)) is not None:
                above = table if field.name == "named" else key
                kinds.update({f"{above}.{name}": f"{above}.NAME" for name in item})
                later.extend((f"{above}.{name}", each) for name, each in item.items())
            elif isinstance(item, dict) and field.name != "options":
                lines.append(f"{field.name} = {_toml(item)}")
            elif isinstance(item, dict):
                for option, setting in item.items():
                    hidden = re.search(r"secret|password|token|key$", option) is not None
                    lines.append(f"{option} = {_toml('***' if hidden else setting)}")
            else:
                text = _toml(item)
                if f"{kinds.get(table, table)}.{field.name}" in secrets and item:
                    text = _toml(_masked(str(item)))
                lines.append(f"{field.name} = {text}")
        lines.append("")
        for name, group in later:
            write(name, group)

    for field in msgspec.structs.fields(settings):
        group = getattr(settings, field.name)
        if isinstance(group, Group):
            write(field.name, group)
    return f"# data = {settings.data}\n\n" + "\n".join(lines).rstrip() + "\n"


def _masked(value: str) -> str:
    if "://" in value:
        return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", value)
    return "***"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        items = ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
