"""Links between devices: how a message is sent so that it arrives when the emulated network says."""
