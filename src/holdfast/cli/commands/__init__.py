"""One file per subcommand; each has a `command`."""
