"""Foreign text as part of a path: the name of a category, split or subset that becomes a folder."""

from __future__ import annotations

import hashlib
import re
import unicodedata

MAX_BYTES = 255  # of one path component, on every common file system
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')  # a separator, a drive, or refused by Windows
_PLAIN = re.compile(r"[ -~]{1,255}")  # short printable ASCII, the common case
_ESCAPED = re.compile(r"~[0-9a-f]{16}$")  # appended by this module: others with it are escaped too
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\.|$)", re.IGNORECASE)


def safe_component(text: str, suffix: str = "") -> str:
    """`text` as one path component, followed by `suffix`, of at most 255 bytes together.

    Text that is safe on every system stays as it is. Other text (a separator, a drive, `..`, a
    control character, a name that Windows reserves, too long, hidden) keeps its safe characters and
    gets `~` and 16 hexadecimal digits of its sha256, so that distinct texts stay distinct. The
    caller keeps the original text in its data. `suffix` must be safe itself.
    """
    room = MAX_BYTES - len(suffix.encode())
    if _is_safe(text) and len(text.encode()) <= room:
        return text + suffix
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    safe = "".join(" " if _is_control(character) else character for character in text)
    safe = _FORBIDDEN.sub("_", safe).strip(" .")
    if _RESERVED.match(safe):
        safe = f"_{safe}"
    safe = safe.encode()[: room - len(digest) - 1].decode(errors="ignore").rstrip(" .")
    return f"{safe}~{digest}{suffix}"


def _is_safe(text: str) -> bool:
    return bool(
        text
        and text == text.strip(" ").rstrip(".")
        and not text.startswith(".")
        and not any(_is_control(character) for character in text)
        and not _FORBIDDEN.search(text)
        and not _RESERVED.match(text)
        and not _ESCAPED.search(text)
    )


def _is_control(character: str) -> bool:
    """Whether a character is a control, a surrogate, a separator of lines, or unassigned."""
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}


def leaves_its_folder(name: str) -> bool:
    """Whether a relative file name such as `train/a.png` could point outside its folder, on this
    or another system, or cannot be a name at all."""
    parts = name.replace("\\", "/").split("/")
    if not name or ".." in parts or not parts[0]:  # absolute, or a share
        return True
    if name[1:2] == ":" and name[0].isascii() and name[0].isalpha():  # a drive
        return True
    return not _PLAIN.fullmatch(name) and (
        any(unicodedata.category(character) in {"Cc", "Cs"} for character in name)
        or any(len(part.encode()) > MAX_BYTES for part in parts)
    )
