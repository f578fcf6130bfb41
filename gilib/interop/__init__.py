"""Updates of other engines: what a real federation exchanges, as an ``Update`` of this library.

Lists of arrays and state dicts come in by `Update.from_arrays` and `Update.from_state_dicts`; this package has what
needs to know an engine: `gilib.interop.flower` keeps what a client of Flower sent, `gilib.interop.peft` names adapters.
None of these engines is needed to import the library.
"""
