"""Text in which secrets stay references: the host puts their values in at the last moment, and a plugin never sees one."""

from wit_world.imports import types as raw

from .errors import Invalid

# What an input may be that can hold a secret: a string, `{"$secret": "name"}`, `{"$text": ["user:", {"$secret": "name"}]}`, or a list
# of these, one behind the other.
Text = str | dict | list


def to_wit(text: Text) -> list[raw.TextPart]:
    """The parts of a text."""
    match text:
        case str():
            return [raw.TextPart_Plain(text)] if text else []
        case {"$secret": str(name)} if len(text) == 1:
            return [raw.TextPart_Secret(name)]
        case {"$text": list(parts)} if len(text) == 1:
            return to_wit(parts)
        case list():
            return [part for piece in text for part in to_wit(piece)]
    raise Invalid(f"a {type(text).__name__} is no text")
