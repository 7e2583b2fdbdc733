"""The checkpoints of edgeseg's bundled networks, found by `training.engine.bundled` by their names."""
