"""Does k = 8 explore more than k = 1? A study on Countdown."""
