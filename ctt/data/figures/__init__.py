"""Pictures and animations of scenes."""
