"""Text from files, models and programs, made harmless for a terminal. Imports nothing: error messages need it, too."""

# What steers a terminal or turns the order of text around: C0 but tab and newline, DEL and C1, the bidirectional
# embeddings, overrides and isolates of Unicode; and halves of surrogate pairs, which no encoding has.
CONTROLS = (
    *(code for code in range(0x20) if code not in (0x09, 0x0A)),
    *range(0x7F, 0xA0),
    *(0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
    *range(0xD800, 0xE000),
)
_VISIBLE = dict.fromkeys(CONTROLS, "\N{REPLACEMENT CHARACTER}")
_IN_A_CELL = {**_VISIBLE, 0x09: "\N{REPLACEMENT CHARACTER}", 0x0A: "\N{REPLACEMENT CHARACTER}"}
_IN_JSON = {code: f"\\u{code:04x}" for code in CONTROLS if code >= 0x7F}  # what json escapes itself is below


def printable(text: str) -> str:
    """Replace control characters by a visible sign. Tab and newline are text."""
    return text.translate(_VISIBLE)


def printable_cell(text: str) -> str:
    """Replace control characters in what stands in a line of a table: tab and newline, too."""
    return text.translate(_IN_A_CELL)


def printable_json(text: str) -> str:
    """Escape control characters in a JSON document, which says the same then."""
    return text if text.isascii() and "\x7f" not in text else text.translate(_IN_JSON)
