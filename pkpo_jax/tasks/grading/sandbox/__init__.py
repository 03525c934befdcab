"""Runs code that nobody has read where it can do no harm."""
