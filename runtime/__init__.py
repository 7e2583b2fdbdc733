"""Runs edgeseg networks on video with OpenCV and onnxruntime alone."""
