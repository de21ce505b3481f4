"""docs/papers.md: the experiments of published systems, run anew, and what they claim beside what comes out."""
