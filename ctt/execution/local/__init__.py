"""Jobs as processes of this host, on leased devices."""
