"""Search algorithms that policies share. None is a policy."""
