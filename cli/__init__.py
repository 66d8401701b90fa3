"""The command line: parse, call one library function, print. Installed as `cxrfeat_cli`."""
