"""Programs around clients that users bring, unmodified: each runs in the clients' environment, against a URL."""
