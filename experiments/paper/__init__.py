"""The toy experiments of section 5.1: Figures 1a, 1b, 2, 4 and 5."""
