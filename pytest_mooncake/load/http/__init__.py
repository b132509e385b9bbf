"""One request from the socket to its record: connection, body, stream, completion."""
