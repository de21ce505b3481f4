"""The kernel's network between devices: namespaces, interfaces and queues with the rates and delays of the cluster."""
