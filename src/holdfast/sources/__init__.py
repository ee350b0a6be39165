"""What can be captured, one file per kind of source."""
