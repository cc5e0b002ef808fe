"""The ways in and out: what is said around TLS, as bytes in and events out.

Nothing here knows sockets, time or the event loop, but for two functions of :mod:`.transparent` that ask one socket one
question. Each part is a small machine: ``receive(data)`` takes what a peer sent, in any slicing, and gives a list of
frozen events; what is to be told to a machine from outside (the dial succeeded, it failed) is a method with events of
its own. A machine never raises for what comes from the wire, holds a bounded number of bytes, and is over after one
:class:`~.events.Refused`.

========================  =========================================================================================
in front of any mode      the PROXY protocol (:mod:`countersign.recorder.wire.proxy_protocol`)
in                        :mod:`.socks`, :mod:`.http_in`, :mod:`.transparent`
out                       :mod:`.upstream` (which proxy), :mod:`.http_out`, :mod:`.socks`
where to                  :mod:`.addressing`
before TLS                :mod:`.starttls`
what is done with it      :mod:`.policy`
inside of it              :mod:`.http_summary`
========================  =========================================================================================
"""
