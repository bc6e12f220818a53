"""The figures of a sweep, drawn with matplotlib."""
