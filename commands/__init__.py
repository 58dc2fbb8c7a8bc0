"""The commands: one file each, and the table that orders them."""
