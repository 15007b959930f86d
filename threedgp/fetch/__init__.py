"""Getting files from elsewhere: data sets, lists of pictures, weights."""
