"""One file a figure or table of the paper, by its number and subject.

Figures 1a, 1b, 2, 4 and 5 are of the toy experiments of section 5.1; Figures
3, 6, 7, 8 and the tables are drawn from results of studies.
"""
