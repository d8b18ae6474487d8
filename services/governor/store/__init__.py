"""All SQL of the governor, a file for each thing that it keeps."""
