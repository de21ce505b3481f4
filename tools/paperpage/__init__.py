"""docs/papers.md: experiments of published systems, run again, with the papers' claims and the results here."""
