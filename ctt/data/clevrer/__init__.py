"""CLEVRER's official files: fetching, importing and checking them."""
