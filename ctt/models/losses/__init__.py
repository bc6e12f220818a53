"""The objective of world-model training, its terms, and the forward passes that compute them."""
