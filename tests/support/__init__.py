"""What tests share: builders of small clusters and models, peers, and runs."""
