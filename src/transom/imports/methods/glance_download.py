"""Import an image that another Glance of the same cloud has (API §10.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from transom.errors import FetchFailed, InvalidBody, InvalidValue
from transom.images.attributes import UUID, checked, is_reserved
from transom.imports.fetching import fetch_urls
from transom.imports.plugin import Material
from transom.model.image import Status
from transom.remote.fetch import read_whole
from transom.remote.guard import Guard

if TYPE_CHECKING:
    from transom.imports.request import ImportRequest
    from transom.imports.run import Run
    from transom.model.image import Image
    from transom.registry import Registry

RECORD_BYTES_MAX = 1024 * 1024
_VERSION = re.compile(r"/v2(\.\d+)?/?$")


class GlanceDownload:
    """The other Glance is found in the caller's catalogue, and asked with the caller's token.

    Its address is the operator's word, and so may be a private one. Formats and some custom
    properties come along.
    """

    name = "glance-download"
    needs = Status.QUEUED
    action = "modify_image"
    needs_formats = False
    fetches = True

    def check(self, registry: Registry, request: ImportRequest, image: Image) -> None:
        """Raises InvalidBody."""
        request.text("glance_region")
        if not UUID.fullmatch(request.text("glance_image_id")):
            raise InvalidBody("'method.glance_image_id': the image id does not look like a UUID.")
        if "glance_service_interface" in request.source:
            request.text("glance_service_interface")
        if not hasattr(registry.identity, "image_endpoint"):
            raise InvalidBody(
                "Import method glance-download needs Keystone, whose catalogue tells where the other "
                "Glance is; use web-download instead."
            )

    async def fetch(self, run: Run) -> None:
        """Raises FetchFailed, IdentityUnavailable, InvalidValue, and what `fetch_urls` raises."""
        source, token = run.source, run.notes.get("token") or ""
        url = run.notes.get("image_url")
        if url is None:
            url = await self._find(run, source, token)
            await run.keep(image_url=url)
        guard = Guard.open(run.registry.settings).vouching_for(url)
        headers = {"X-Auth-Token": token}
        if "record" not in run.notes:
            await run.keep(record=await self._record(run, guard, url, headers))
        await fetch_urls(run, [f"{url}/file"], guard=guard, headers=headers)
        await self._dress(run)

    async def _find(self, run: Run, source: dict[str, Any], token: str) -> str:
        identity: Any = run.registry.identity
        region = source["glance_region"]
        interface = source.get("glance_service_interface", "public")
        endpoint = await identity.image_endpoint(token, region, interface)
        if endpoint is None:
            raise FetchFailed(
                f"The catalogue has no image service in region '{region:.80}' with interface "
                f"'{interface:.20}' for you; correct them and import again."
            )
        return f"{_VERSION.sub('', endpoint.rstrip('/'))}/v2/images/{source['glance_image_id']}"

    async def _record(
        self, run: Run, guard: Guard, url: str, headers: dict[str, str]
    ) -> dict[str, Any]:
        content = await read_whole(guard, url, size_bytes_max=RECORD_BYTES_MAX, headers=headers)
        try:
            record = msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise FetchFailed("The other Glance did not answer with an image.") from None
        if record.get("status") != Status.ACTIVE:
            raise FetchFailed(
                f"The image there is {record.get('status')}, not active; import it when it is."
            )
        return {
            "disk_format": record.get("disk_format"),
            "container_format": record.get("container_format"),
            "digest": [record.get("os_hash_algo"), record.get("os_hash_value")],
            "properties": self._properties(run, record),
        }

    def _properties(self, run: Run, record: dict[str, Any]) -> dict[str, str]:
        settings = run.registry.settings
        return {
            name: checked(name, value, settings)
            for name, value in record.items()
            if isinstance(value, str)
            and name.startswith(settings.imports.download_properties)
            and not is_reserved(name)
        }

    async def _dress(self, run: Run) -> None:
        """Give the data the formats and the properties of the other image."""
        record, material = run.notes["record"], run.material
        if material is None:
            raise FetchFailed
        settings = run.registry.settings
        formats = {
            name: checked(name, record[name], settings)
            for name in ("disk_format", "container_format")
        }
        for name, value in formats.items():
            if value is None:
                raise InvalidValue(name, "the image there has none, so its data cannot be used")
        dressed = msgspec.structs.replace(
            material, **formats, properties={**material.properties, **record["properties"]}
        )
        expected = dict(run.notes.get("expected", {}))
        algorithm, value = record["digest"]
        if algorithm and value:
            expected.setdefault(algorithm, value)
        await run.keep(
            material=msgspec.to_builtins(Material(**msgspec.structs.asdict(dressed))),
            expected=expected,
        )
