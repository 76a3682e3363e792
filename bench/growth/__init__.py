"""How the work of each hot statement grows with the catalog: `python -m bench.growth`."""
