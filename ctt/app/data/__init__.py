"""The commands of `ctt data`."""
