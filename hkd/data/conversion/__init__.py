"""What converters of data sets share: records of splits, their checks and their writing; readers of file formats."""
