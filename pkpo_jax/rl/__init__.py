"""The training loop, one verb a file."""
