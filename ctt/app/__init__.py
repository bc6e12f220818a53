"""The body of each command, one file each."""
