"""The backend of device processes: the only place that talks to them."""
