"""Verbs on metadata definitions: their rules and the order of these, nothing of HTTP (API §20)."""
