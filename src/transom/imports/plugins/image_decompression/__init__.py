"""Unpacks archives on their way into the stores: gzip, bzip2, xz, zstd, and zip with one member.

One layer is taken off: what is in the archive goes on as it is, also when it is an archive itself.
Everything is streamed, from the staging store through a thread back into the staging store; nothing
is named by a name from inside an archive. Decision 0065.
"""

from transom.imports.plugins.image_decompression.plugin import ImageDecompression

__all__ = ["ImageDecompression"]
