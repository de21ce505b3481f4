"""Drawing of a cluster from a scenario and a seed, and writing it back as a scenario without random draws."""
