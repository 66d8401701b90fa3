"""What is wrong with a study before anything is trained on it: copies of images under other patients' names."""
