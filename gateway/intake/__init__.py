"""What comes in: committed, read as a command or as a prompt, and routed."""
