"""The cache: whole copies of images in a folder of this node, in front of slow stores."""

from transom.cache.folder import CacheFolder, Entry, Filling

__all__ = ["CacheFolder", "Entry", "Filling"]
