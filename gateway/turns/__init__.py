"""Messages become turns, one at a time per session."""
