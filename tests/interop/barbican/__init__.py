"""A real Barbican, and what of Transom needs one."""
