"""Numbers about the running service: declared in `table`, counted where things happen, and given to
Prometheus by `exposition` where `[metrics] bind` says so (decision 0130)."""
