"""Tests of the house itself: its tables, its documentation, its tree."""
