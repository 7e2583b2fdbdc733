"""What networks say of frames, as files: made by `training.label`, learnt from by `training.train`."""
