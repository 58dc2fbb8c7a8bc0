"""Stacks: toolchains as folders of data, and the pure code that reads them."""
