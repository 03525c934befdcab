"""Commands: what one runs, and one folder for each figure of the paper."""
