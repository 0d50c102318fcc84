"""Images: read without Paddle by the api and the workers, and computed with it by the engine."""
