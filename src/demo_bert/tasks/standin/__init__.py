"""The stand-in for MRPC: data alone; a package so that it is installed with the program."""
