"""The command line: one file a command, no logic that the rooms lack.

Settings come from flags, then from ``COUNTERSIGN_*`` variables, then from ``countersign.toml`` in the working
directory or the home. A :class:`~countersign.errors.CountersignError` becomes one line and its exit code in
:mod:`countersign.cli.app`. The exit codes are the same for every command:

==== ===============================================================================================================
code meaning
==== ===============================================================================================================
0    as expected; also a list with nothing in it, a proxy that was told to stop
1    the answer is no: no key log or no certificate in a recording that was to be exported (in one of several, too), no
     TLS in what was to be imported, a demo that did not go as it should
2    wrong usage: an unknown option or value, a file or recording that was named and is not there or not of its kind
3    the environment is at fault: a port that is taken, a home, store or output that cannot be written, a client that
     does not even accept a proxy with nothing wrong, a server that answers a right client with no TLS
4    nothing can be said: the fault of a scenario never was on the wire, a server refuses a right client as well
130  interrupted with Ctrl-C (a proxy stops in order instead, with 0)
141  whoever read standard output has gone (128 + SIGPIPE, as a shell shows it for ``grep``)
==== ===============================================================================================================
"""
