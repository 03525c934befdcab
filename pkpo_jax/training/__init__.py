"""A run: a config, a folder, a loop."""
