"""Reads answers in LaTeX and tells whether two are equal."""
