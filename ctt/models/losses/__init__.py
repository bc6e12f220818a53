"""What the world model is trained on, and the forward passes that it takes."""
