"""Converts images on their way into the stores, with `qemu-img`: raw, qcow2, vmdk, vhdx.

`qemu-img` reads what strangers wrote, so it is shown only what our own inspection found harmless, is
told the format, and works in a process that can open that one file and nothing else. Decision 0066.
"""

from transom.imports.plugins.image_conversion.plugin import ImageConversion

__all__ = ["ImageConversion"]
