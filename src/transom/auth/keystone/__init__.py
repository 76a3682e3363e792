"""What the backend `keystone` is made of: a client of Keystone, and a memory of its verdicts."""
