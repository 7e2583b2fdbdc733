"""Short programs to start from; each runs with `python -m runtime.examples.<name> --source synthetic`."""
