"""Parts of tools/validation.py: data sets, and the page that they make."""
