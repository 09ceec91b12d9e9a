"Generative autoencoders: two papers as a book that runs, and the book as a package."
__version__ = "0.0.1"

_OFFERED = dict(Automodulator="automodulator", DecipheringAutoencoder="deciphering", StyleMixer="widgets",
                ImageDataset="datasets", image_folder="datasets", open_dataset="datasets", toyfaces="datasets",
                mix="mixing", mixing_grid="mixing", interpolate="mixing", conditional="mixing", rng="core", show="core")
__all__ = ["__version__", *_OFFERED]


def __getattr__(name): # nothing is imported before it is asked for
    if name not in _OFFERED: raise AttributeError(f"module 'genae' has no attribute {name!r}: it offers {', '.join(_OFFERED)}; all else is in its modules")
    from importlib import import_module
    return getattr(import_module(f"genae.{_OFFERED[name]}"), name)


def __dir__(): return sorted([*globals(), *_OFFERED])
