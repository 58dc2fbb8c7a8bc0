"""The chat platforms: one file or folder each. They know only `gateway.chat`, `gateway.errors` and their SDK."""
