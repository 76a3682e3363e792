"""The metadata definitions that Glance ships, as they come with its package."""
