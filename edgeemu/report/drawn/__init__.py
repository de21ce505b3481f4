"""Pictures of runs: drawn from their records with matplotlib, for a page and for a paper. Knows no processes."""
