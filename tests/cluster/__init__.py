"""Archives and trainings on Ray."""

NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.2", "object_store_memory": 80 << 20}
"""A node on the loopback interface. Ray replaces 127.0.0.1 by an address that other machines reach."""
