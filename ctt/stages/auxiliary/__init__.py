"""The auxiliary stages that come with ctt, one file each: the file's name is the stage's kind, its STAGE the class."""
