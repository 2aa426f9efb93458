"""Whether this place is fit to work in: looks only, changes nothing, and imports no heavy library. See `ups doctor`."""
