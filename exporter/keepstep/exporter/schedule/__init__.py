"""What is done at every step: the schedule file, and a scheduler as a matrix of coefficients."""
