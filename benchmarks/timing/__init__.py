"""Stages, rounds, streams, cold starts, sustained load."""
