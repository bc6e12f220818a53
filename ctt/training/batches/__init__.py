"""What steps are computed on: drawn and packed on the host, gathered where slots and frames are held."""
