"""Grades answers in worker processes: a pool, and graders to run in it."""
