"""The embedded sample of SQuAD: data alone; a package so that it is installed with the program."""
