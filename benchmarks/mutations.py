"""Damaged files: in any bytes, and in the parts of a .npy, .npz, .csv or safetensors file."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable

HUGE = (0, 1, (1 << 16) - 1, 1 << 31, (1 << 32) - 1, 1 << 60, (1 << 64) - 1)
WRONG = (None, -1, 0, 1 << 60, 10**30, 1e308, float("nan"), "x", "", [], {}, [[1]], True)


def in_bytes(content: bytes, draw: random.Random, header: int = 128) -> bytes:
    """Some bytes changed, cut off, repeated or inserted, more often in the first `header`."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 3, 20])):
        if not changed:
            break
        at = draw.randrange(min(draw.choice([8, header, len(content)]), len(changed)))
        kind = draw.randrange(6)
        if kind == 0:
            del changed[at:]
        elif kind == 1:
            changed[at:at] = draw.randbytes(draw.choice([1, 8, 100]))
        elif kind == 2:
            size = draw.choice([2, 4, 8])
            number = draw.choice([*HUGE, len(content)]) % (1 << 8 * size)
            changed[at : at + size] = number.to_bytes(size, "little")
        elif kind == 3:
            changed[at:at] = changed[at : at + 500]
        elif kind == 4:
            to = draw.randrange(len(changed))
            changed[to : to + 64] = changed[at : at + 64]
        else:
            changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed)


# --- .npy ---------------------------------------------------------------------------------------

DESCRIPTIONS = (
    "'<f8'", "'>f8'", "'<f4'", "'|u1'", "'|b1'", "'<i8'", "'<c16'", "'|O'", "'<U8'", "'|S1000'",
    "'<f16'", "'<f2'", "'<M8[s]'", "'|V8'", "'<U999999999'", "'|V0'", "[('a', '<f8')]",
    "[('a', '|O'), ('b', '<f4')]", "('<f8', (2, 2))", "[('a', '<f8', (1 << 30,))]", "None", "3",
    "'__import__(\"os\").abort()'", "{'names': ['a'], 'formats': ['f8']}",
)  # fmt: skip
SHAPES = (
    "()", "(0,)", "(40,)", "(1152921504606846976,)", "(1152921504606846976, 4)", "(4, 1 << 60)",
    "(4294967296, 4294967296)", "(-1,)", "(-40, 4)", "(40, -4)", "(40, 4, 1, 1, 1)", "(True, 4)",
    "(40.0, 4)", "'40'", "[40, 4]", "None", "(1,) * 65", "(" + "1, " * 65 + ")", "(100000000, 4)",
    "(10, 16)", "(160, 1)", "(0, 4)", "(40, 0)", "(5, 4)", "(1" + "0" * 5000 + ",)",
    "(" * 200 + ")" * 200,
)  # fmt: skip


def npy(content: bytes, draw: random.Random) -> bytes:
    """Another header before the same numbers, with a length that is right or wrong."""
    if draw.random() < 0.4:
        return in_bytes(content, draw)
    order, shape, descr = "False", "(40, 4)", "'<f8'"
    body = content[10 + struct.unpack("<H", content[8:10])[0] :]
    kind = draw.randrange(5)
    if kind == 0:
        descr = draw.choice(DESCRIPTIONS)
    elif kind == 1:
        shape = draw.choice(SHAPES)
    elif kind == 2:
        order = draw.choice(["True", "1", "None", "'C'"])
    elif kind == 3:
        descr, shape = draw.choice(DESCRIPTIONS), draw.choice(SHAPES)
    else:
        body = body[: draw.randrange(len(body))] if draw.random() < 0.5 else body * 3
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    if draw.random() < 0.1:
        text = draw.choice(["{}", "", "[" * 3000, "0" * 60000, text[:-3], text + "\0", "λ" + text])
    encoded = text.encode() + b" " * draw.choice([0, 20, 20000]) + b"\n"
    version = draw.choice([(1, 0), (1, 0), (1, 0), (2, 0), (3, 0), (9, 9)])
    length = len(encoded) if draw.random() < 0.9 else draw.choice([0, 1, (1 << 16) - 1])
    sized = (length % (1 << 16)).to_bytes(2, "little") if version == (1, 0) else None
    return b"\x93NUMPY" + bytes(version) + (sized or length.to_bytes(4, "little")) + encoded + body


# --- .npz ---------------------------------------------------------------------------------------

MEMBERS = ("x.npy", "y.npy", "x", "y", "../../x.npy", "/x.npy", "C:\\x.npy", "", "\0.npy", "λ.npy",
           "a/" * 3000 + "x.npy")  # fmt: skip


def npz(content: bytes, draw: random.Random) -> bytes:
    """A damaged member, another name for one, one more, or wrong fields of the archive itself."""
    if draw.random() < 0.3:
        return in_bytes(content, draw)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    kind = draw.randrange(4)
    if kind == 0:
        index = draw.randrange(len(members))
        members[index] = members[index][0], npy(members[index][1], draw)
    elif kind == 1:
        index = draw.randrange(len(members))
        members[index] = draw.choice(MEMBERS), members[index][1]
    elif kind == 2:
        more = draw.choice([("more.npy", b""), members[0], ("z", b"z")])
        members.insert(draw.randrange(3), more)
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    made = io.BytesIO()
    method = draw.choices(methods, [6, 6, 1, 1])[0]
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", method) as archive:
        warnings.simplefilter("ignore")  # two members of the same name
        for name, data in members:
            info = zipfile.ZipInfo(name or "x.npy")
            info.compress_type = archive.compression
            archive.writestr(info, data)
    changed = bytearray(made.getvalue())
    if kind == 3:
        # The fields of a member's local header, of the directory's entries and of its end.
        marks = {b"PK\x03\x04": 30, b"PK\x01\x02": 46, b"PK\x05\x06": 22}
        for _ in range(draw.choice([1, 1, 2, 5])):
            mark = draw.choice(list(marks))
            places = [at for at in range(len(changed)) if changed[at : at + 4] == mark]
            if not places:
                break
            at = draw.choice(places) + draw.randrange(4, marks[mark])
            size = draw.choice([1, 2, 4])
            number = draw.choice([*HUGE, draw.randrange(300)]) % (1 << 8 * size)
            changed[at : at + size] = number.to_bytes(size, "little")
    return bytes(changed)


# --- .csv ---------------------------------------------------------------------------------------

CELLS = (
    "", " ", '"', '""', '"1', "\0", "1e999", "-1e999", "1e308", "1" * 400, "inf", "-inf", "nan",
    "NaN", "NA", "None", "true", "1_000", "0x1p3", "1,2", "1;2", "λ", "\N{FULLWIDTH DIGIT ONE}",
    "\N{ARABIC-INDIC DIGIT TWO}", "\N{LINE SEPARATOR}", "\ufeff1", "\r", "\n", "\r\r", "=1+1",
    "1e-400", "-0", "9" * 5000, "x" * 200_000, '"' + "1\n" * 500 + '"', "1" + "," * 3000, "\x1a",
    "\udc80", "1.5", "2", "-1", "1e18", "9223372036854775808",
)  # fmt: skip
NAMES = ("", "1", "nan", "a", '"', "\0", "λ", "x" * 200_000, "c0", "label", "\udcff", " label ")


def csv(content: bytes, draw: random.Random) -> bytes:
    """Wrong cells, names and lines."""
    if draw.random() < 0.25:
        return in_bytes(content, draw)
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(draw.choice([1, 1, 2, 10])):
        row = draw.choice(rows)
        kind = draw.randrange(8)
        if kind < 4 and row:
            row[draw.randrange(len(row))] = draw.choice(CELLS)
        elif kind == 4:
            rows[0][draw.randrange(len(rows[0]))] = draw.choice(NAMES)
        elif kind == 5 and row:
            del row[draw.randrange(len(row))]
        elif kind == 6:
            row.insert(0, draw.choice(CELLS))
        elif kind == 7:
            column = draw.randrange(len(rows[0]))
            cell = draw.choice(CELLS)
            for other in rows[1:]:
                if column < len(other):
                    other[column] = cell
    if draw.random() < 0.1:
        names = [f"c{k}" for k in range(30_000)]
        numbers = [str(k) for k in range(30_000)]
        rows = draw.choice([rows[:1], rows[1:], [], rows * 30, [numbers, *rows], [names] * 3,
                            [["c"] * 30_000, *rows], [names, *[numbers] * 12]])  # fmt: skip
    end = draw.choice(["\n", "\n", "\n", "\r\n", "\r", "\n\n", "\0\n"])
    text = end.join(",".join(row) for row in rows) + end
    coding = draw.choice(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"])
    return text.encode(coding, "surrogateescape" if coding == "utf-8" else "replace")


# --- safetensors --------------------------------------------------------------------------------


def safetensors(content: bytes, draw: random.Random) -> bytes:
    """Damaged bytes, or a wrong value in its JSON or in bpx's own header inside that."""
    header = 8 + int.from_bytes(content[:8], "little")
    if draw.random() < 0.5:
        return in_bytes(content, draw, header)
    told = json.loads(content[8:header])
    inner = told.get("__metadata__", {})
    if draw.random() < 0.7 and "header" in inner:
        inner["header"] = json.dumps(mistaken(json.loads(inner["header"]), draw))
        inner.pop("checksum", None)
    else:
        told = mistaken(told, draw)
    text = json.dumps(told).encode()
    return len(text).to_bytes(8, "little") + text + content[header:]


def mistaken(header: object, draw: random.Random) -> object:
    """The JSON with a wrong value somewhere."""
    copy = json.loads(json.dumps(header))
    inner = copy
    while True:
        key = draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        below = inner[key]
        if isinstance(below, dict | list) and below and draw.random() < 0.9:
            inner = below
            continue
        inner[key] = draw.choice(WRONG)
        return copy


def json_text(content: bytes, draw: random.Random) -> bytes:
    """Damaged bytes, or a wrong value."""
    if draw.random() < 0.3:
        return in_bytes(content, draw)
    return json.dumps(mistaken(json.loads(content), draw)).encode()


def parquet(content: bytes, draw: random.Random) -> bytes:
    """Damaged bytes, mostly in the footer, which says what is where."""
    if draw.random() < 0.3:
        return in_bytes(content, draw)
    footer = 8 + int.from_bytes(content[-8:-4], "little")
    return content[:-footer] + in_bytes(content[-footer:], draw, footer)


KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "csv": csv,
    "ensemble": safetensors,
    "history": csv,
    "recipe": json_text,
    "scores": json_text,
    "npy": npy,
    "npz": npz,
    "parquet": parquet,
    "safetensors": safetensors,
}
