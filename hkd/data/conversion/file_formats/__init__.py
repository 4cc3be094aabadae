"""Readers of file formats that several data sets use: MAT-files, XML and text, bounded and with every error named."""
