"""Benchmarks that print what they measured, on what, and how much it varied."""
