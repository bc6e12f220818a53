"""Sources of data sets, one file each: a source writes the folder that the stage `data` publishes."""
