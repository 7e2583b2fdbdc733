"""Turns checkpoints into ONNX files that prove themselves."""
