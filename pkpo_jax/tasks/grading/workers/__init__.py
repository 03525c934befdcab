"""Worker processes that grade one answer at a time."""
