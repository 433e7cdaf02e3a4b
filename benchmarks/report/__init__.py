"""What comes out: targets, tables and plots of a results' file, as one HTML page and as pages of the documentation."""
