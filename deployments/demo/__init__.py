"""`make demo`: the main job on a sample stack, shown. Everything it makes is its own, and gone at the end."""
