"""What compares, audits and reproduces: trainings, their tests, and what comes of both."""
