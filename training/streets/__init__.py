"""Procedural street scenes with exact labels: the data of the demo and the tests.

A street is a plan in metres (`plan`), made of things that can paint themselves (`houses`, `furniture`,
`vehicles`, `people`) on a canvas that colours and labels with the same polygons (`canvas`). Everything is
drawn from seeds; nothing is read from disk. A street is a town's by day; a varied one may be a country road
or a motorway, below hills, at night, in rain or against a low sun (`weather`).
"""

from training.streets.scenes import Drive, Scene, render_scene

__all__ = ["Drive", "Scene", "render_scene"]
