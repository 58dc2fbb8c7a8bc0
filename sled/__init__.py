"""The sled: one process in each project's container. It dials the gateway and supervises the agent."""
