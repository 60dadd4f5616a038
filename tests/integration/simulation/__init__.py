"""The protocol's real code, driven one switch at a time: who goes on, and when time passes, is drawn."""
