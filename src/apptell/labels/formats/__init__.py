"""One module for each form in which ground truth comes."""
