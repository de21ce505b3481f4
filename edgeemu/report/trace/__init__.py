"""A run as a trace that Perfetto opens: what each device and link did when. Pure; reads records, makes JSON events."""
