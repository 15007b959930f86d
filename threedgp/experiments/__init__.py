"""Sets of experiments as data, and tables of what has been measured beside what was published."""
