"""The Compute API's image view: the same images in the shape of the Compute API v2.

It is a view. It calls the verbs of `transom.images` and holds no rule and no SQL of its own.
"""
