"""A device's process. It must stay small: nothing here imports policies, the controller, or a heavy library."""
