"""What the operator set: settings, secrets, who may do what, and the log."""
