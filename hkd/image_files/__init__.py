"""Image files: which files of a folder are images, their upright sizes, and their pixels as RGB of 8 bits."""
