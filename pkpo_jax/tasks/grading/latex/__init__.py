"""Reads mathematics and tells whether two answers are equal."""
