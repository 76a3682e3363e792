"""Configurations that several tests share, so that they share a server as well."""

from __future__ import annotations

from tests.support.importing import FROM_LOOPBACK
from tests.support.server import Config, merged

TWO_STORES: Config = {
    "stores": {
        "default": "main",
        "main": {"driver": "file", "path": "<data>/images"},
        "second": {"driver": "file", "path": "<data>/second", "weight": 5},
    }
}
SLOW_AND_FAST: Config = {
    "stores": {
        "default": "slow",
        "slow": {"driver": "file", "path": "<data>/slow", "description": "Spinning disks"},
        "fast": {"driver": "file", "path": "<data>/fast", "weight": 10},
    }
}
MEMORY_STORE: Config = {"stores": {"main": {"driver": "memory"}}}
LOCATIONS: Config = {"images": {"show_multiple_locations": True, "show_direct_url": True}}
SMALL_LIMITS: Config = {
    "limits": {
        "image_properties_max": 3,
        "image_tags_max": 3,
        "image_members_max": 3,
        "image_size_bytes_max": 100_000,
        "page_size_default": 2,
        "page_size_max": 3,
    }
}
OWN_FORMATS: Config = {
    "images": {
        "disk_formats": ["raw", "gpt", "iso"],
        "container_formats": ["bare", "docker"],
        "gpt_checks_nonfatal": ["mbr"],
    }
}
WITHOUT_IMPORTS: Config = {"imports": {"methods": []}}
IMPORTS: Config = FROM_LOOPBACK
IMPORTS_TO_STORES: Config = merged(
    FROM_LOOPBACK,
    {
        "stores": {
            "default": "main",
            "staging": "quick",
            "main": {"driver": "file", "path": "<data>/images"},
            "second": {"driver": "file", "path": "<data>/second", "weight": 5},
            "quick": {"driver": "memory", "weight": -1},
            "web": {"driver": "http"},
        }
    },
)
"""Three stores that take data, one of which stages it, and one that does not."""
