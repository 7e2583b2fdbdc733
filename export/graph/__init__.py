"""ONNX graphs: trace, simplify, edit, run, finish, inspect."""
