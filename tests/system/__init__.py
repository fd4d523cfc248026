"""The program from outside: its command line, its sockets, its signals, its records. Nothing of it is imported."""
