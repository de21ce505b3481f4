"""Pages of runs and comparisons: one HTML file each, which needs no network, no script and no other file."""
