"""The chat platforms: one file or folder each. They know `gateway.chat`, `gateway.errors` and their SDK, no more."""
