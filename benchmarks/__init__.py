"""Measures exported files: latency and accuracy."""
