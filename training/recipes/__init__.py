"""Trainings of several stages, as data: one JSON file a recipe, and what runs it."""
