"""What a verb is handed: the parts of a running Transom, in one frozen value. No globals."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transom.audit import AuditLog
    from transom.auth.authenticator import Authenticator
    from transom.cache import CacheFolder
    from transom.catalog import Catalog
    from transom.events import Events
    from transom.policy import Policy
    from transom.policy.protections import Protections
    from transom.quotas import Limits
    from transom.settings import Settings
    from transom.signatures import Signatures
    from transom.stores import Stores


@dataclass(frozen=True, slots=True)
class Registry:
    """The collaborators of every verb in `images/`, filled by `app.py`."""

    settings: Settings
    catalog: Catalog
    stores: Stores
    policy: Policy
    protections: Protections
    limits: Limits
    identity: Authenticator
    signatures: Signatures
    cache: CacheFolder | None
    """None where the cache is switched off."""
    process_id: str
    announces_stores: bool
    events: Events
    audit: AuditLog | None = None
    """None where nothing is noted."""
    work_waits: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a task was remembered, so that the worker of this process looks at once."""
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is about to end and wants no new requests."""
    cache_waits: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an image was asked for that the cache of this node is to fetch."""
    looks: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    """Looks at whether a part answers that are under way, for `/readyz`."""
