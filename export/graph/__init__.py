"""ONNX graphs: trace, edit, simplify, stamp, count."""
