"""What an operator types: the subcommands of `huskies`."""
