"""Operating Transom: what deploy/ brings, and what watches a service, with the real programs."""
