"""The wire types of each dialect: what clients send, what they get."""
