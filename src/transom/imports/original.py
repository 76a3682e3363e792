"""What an image keeps of the data that it was imported from, when plugins made other data of it.

`size`, `checksum` and `os_hash_value` are those of the data that is stored, because that is what
clients download and compare. These custom properties are those of the data that came (decision 0068).
"""

from __future__ import annotations

from typing import Final

from transom.imports.plugin import Material

HASH_ALGO: Final = "original_hash_algo"
HASH_VALUE: Final = "original_hash_value"
SIZE: Final = "original_size"
DISK_FORMAT: Final = "original_disk_format"
CONTAINER_FORMAT: Final = "original_container_format"


def original_properties(
    came: Material, goes: Material, hash_algorithm: str, hash_value: str
) -> dict[str, str]:
    """The properties that tell of `came`, with its digest; none if its bytes go on unchanged."""
    if came.key == goes.key:
        return {}
    told = {
        HASH_ALGO: hash_algorithm,
        HASH_VALUE: hash_value,
        SIZE: str(came.size_bytes),
        DISK_FORMAT: came.disk_format,
        CONTAINER_FORMAT: came.container_format,
    }
    return {name: value for name, value in told.items() if value is not None}
