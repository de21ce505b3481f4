"""What is made of a run's records."""
