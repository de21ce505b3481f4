"""Speed of this host and of the kernels on it, timed in samples; those that something disturbed do not count."""
