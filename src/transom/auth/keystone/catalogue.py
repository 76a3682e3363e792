"""The service catalogue of a token, as Keystone v3 gives it."""

from __future__ import annotations

import msgspec


class Endpoint(msgspec.Struct, kw_only=True):
    """Where a service is reached."""

    url: str
    interface: str
    region: str | None = None
    region_id: str | None = None


class Service(msgspec.Struct, kw_only=True):
    """A service and where it is reached."""

    type: str = ""
    endpoints: list[Endpoint] = msgspec.field(default_factory=list)


class Catalogue(msgspec.Struct, kw_only=True):
    """The answer of `GET /v3/auth/catalog`."""

    catalog: list[Service] = msgspec.field(default_factory=list)

    def find(self, kind: str, region: str, interface: str) -> str | None:
        """The URL of a service in a region; None when there is none."""
        for service in self.catalog:
            if service.type == kind:
                for endpoint in service.endpoints:
                    if endpoint.interface == interface and region in (
                        endpoint.region,
                        endpoint.region_id,
                    ):
                        return endpoint.url
        return None
