"""The plugin `inject_image_metadata` (lifecycle §9)."""

from __future__ import annotations

import msgspec

from transom.errors import ConfigurationError, InvalidValue
from transom.images.attributes import BASE, HASHES, READ_ONLY, checked, is_reserved
from transom.imports.plugin import Material, Workbench
from transom.settings import Settings

_OTHERS = frozenset({"id", "virtual_size", "locations"})


class InjectImageMetadata:
    """Sets the configured properties on imported images, over those that they have; not when the
    caller has one of the ignored roles."""

    name = "inject_image_metadata"

    def __init__(self, settings: Settings, target: str) -> None:
        """Raises ConfigurationError for a property that no image can have."""
        del target
        self._properties = dict(settings.imports.inject)
        self._ignored = frozenset(role.lower() for role in settings.imports.inject_ignore_roles)
        for name, value in self._properties.items():
            if name in BASE | READ_ONLY | HASHES | _OTHERS or is_reserved(name):
                raise ConfigurationError(
                    f"imports.inject: {name!r} is an attribute of the service; inject custom "
                    "properties only."
                )
            try:
                checked(name, value, settings)
            except InvalidValue as wrong:
                raise ConfigurationError(f"imports.inject: {wrong}.") from wrong

    async def run(self, bench: Workbench, material: Material) -> Material:
        """The Material with the properties added."""
        if self._ignored & {role.lower() for role in bench.roles}:
            return material
        return msgspec.structs.replace(material, properties=material.properties | self._properties)
