"""What the recorder decides: the layout of its files, and which outcomes stand."""
