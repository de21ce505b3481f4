"""Memory caps that the kernel enforces: control groups of either version, else a limit on each process."""
