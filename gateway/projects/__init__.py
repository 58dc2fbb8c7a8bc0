"""Places of their own for agents: made, started, rebuilt, ended."""
