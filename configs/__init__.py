"""One file a run; `get_config()` in each."""
