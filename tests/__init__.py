"""Transom's tests: unit, contracts, api, interop, faults."""
