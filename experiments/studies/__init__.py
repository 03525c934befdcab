"""Studies: arms, rates and seeds as data, and one runner for all."""
