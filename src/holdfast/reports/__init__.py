"""Pages for people: one HTML file each, with its styles and pictures inside, that needs no network to be read."""
