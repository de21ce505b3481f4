"""Number formats as code: float32 to the bytes of a format and back. Knows blocks of numbers; no matrices, no files."""
