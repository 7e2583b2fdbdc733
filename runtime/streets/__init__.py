"""Procedural street scenes with exact labels: the data of the demo and the tests."""
