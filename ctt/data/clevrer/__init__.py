"""CLEVRER's official files: downloading, importing and checking them."""
