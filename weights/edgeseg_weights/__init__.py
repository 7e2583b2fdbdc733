"""The checkpoints of edgeseg's bundled networks, found by `training.engine.checkpoint` by their names."""
