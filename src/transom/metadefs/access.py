"""What every verb on metadata definitions does first: find the namespace, ask the policy."""

from __future__ import annotations

import datetime as dt

from transom.errors import AnonymousRefused
from transom.model.actor import Actor
from transom.model.metadef import Namespace
from transom.registry import Registry


async def readable(registry: Registry, actor: Actor, name: str, *rules: str) -> Namespace:
    """The namespace, if the caller may see it and passes the rules in their order.

    Raises NamespaceNotFound, PolicyRefused.
    """
    namespace = await registry.catalog.metadefs.get(name, seen_by=actor)
    for rule in rules:
        registry.policy.check_namespace(actor, rule, namespace)
    return namespace


async def writable(registry: Registry, actor: Actor, name: str, *rules: str) -> Namespace:
    """As `readable`, for a caller that wants to change something there. Raises AnonymousRefused
    besides."""
    refuse_anonymous(actor)
    return await readable(registry, actor, name, *rules)


def refuse_anonymous(actor: Actor) -> None:
    """Raise AnonymousRefused for a caller without identity, before anything is looked up."""
    if actor.is_anonymous:
        raise AnonymousRefused


def now() -> dt.datetime:
    """The present as an aware UTC datetime."""
    return dt.datetime.now(dt.UTC)
