"""What an operator types: the subcommands of `huskies`."""

__all__ = ["doctor", "init", "subcommands"]
