"""Where the time of tokens went: critical paths, and what is said of them."""
