"""Tables, statistics and figures of a sweep, from its predictions. Reads no store and no server."""
