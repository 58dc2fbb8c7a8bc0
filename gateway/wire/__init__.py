"""A project's socket, and what it carries: its sled's frames, the model, git and files."""
