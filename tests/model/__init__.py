"""A model of the protocol: random histories of it, and every small one."""
