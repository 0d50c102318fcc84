"""Where chat templates run: in processes of their own, which may be killed and can open nothing.

A template is a program, and Jinja's sandbox keeps it from Python's internals only: not from a loop without end, nor
from a string of a gigabyte. So templates are rendered in children that the kernel limits; `child.py` is their program,
`children.py` the api's side of it, and `job.py` what goes between them.
"""
