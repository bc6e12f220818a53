"""Tables, statistics and pictures of a sweep: predictions in, comparison out. Reads no store and no server."""
