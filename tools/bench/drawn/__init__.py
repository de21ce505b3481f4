"""Random clusters for benchmarks: instances by number, a judge of placements, and a long search for the best ones."""
