"""The view of a cluster that a policy decides from, and quick estimates made with it."""
