"""What a compiled BPF object says of itself: its programs and their code (ELF), and the layout of its types (BTF).

No more than the layout test asks for, of 64-bit little-endian ELF and the kernel's Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

INT, POINTER, ARRAY, STRUCT, UNION, ENUM = 1, 2, 3, 4, 5, 6
FUNC, FUNC_PROTO, VAR, DATASEC, DECL_TAG, ENUM64 = 12, 13, 14, 15, 17, 19
ALIASES = {8, 9, 10, 11, 18}  # typedef, volatile, const, restrict, type tag
ONCE = {INT: 4, ARRAY: 12, VAR: 4, DECL_TAG: 4}  # bytes behind a type of that kind
EACH = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}  # the same, for each member
SYMTAB, FUNCTION = 2, 2  # SHT_SYMTAB, STT_FUNC
EXECUTABLE = 4  # SHF_EXECINSTR
CALL = 0x85  # BPF_JMP | BPF_CALL; of a helper, where the source register is 0


class Field(NamedTuple):
    """Where a member of a struct lies, in bytes."""

    offset: int
    size: int


class Type(NamedTuple):
    """One type. `size` is the number of another type where the kind is one that refers to it."""

    name: str
    kind: int
    size: int
    members: bytes


def text(strings: bytes, offset: int) -> str:
    """The string that begins at an offset of a string table."""
    return strings[offset : strings.index(b"\0", offset)].decode()


def programs(path: Path) -> list[str]:
    """The functions that libbpf takes for programs: the global ones in sections that name a hook."""
    return [name for name, section in _global_functions(path) if section != ".text"]


def global_functions(path: Path) -> list[str]:
    """The functions that the verifier walks once, whatever their arguments are."""
    return [name for name, section in _global_functions(path) if section == ".text"]


def _global_functions(path: Path) -> list[tuple[str, str]]:
    """Those of all sections, with the section's name."""
    sections = _Sections(path)
    return [
        (text(sections.symbol_names, name), sections.names[section])
        for name, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", sections.symbols)
        if info & 15 == FUNCTION and info >> 4
    ]


def helpers(path: Path) -> set[int]:
    """The numbers of the kernel's helpers (`enum bpf_func_id`) that the code calls."""
    return {
        number
        for code in _Sections(path).code
        for operation, registers, _, number in struct.iter_unpack("<BBhi", code)
        if operation == CALL and not registers >> 4
    }


class _Sections:
    """The sections of an ELF file."""

    def __init__(self, path: Path) -> None:
        file = path.read_bytes()
        *_, table, _, _, _, _, size, count, names = struct.unpack_from("<16sHHIQQQIHHHHHH", file)
        headers = [struct.unpack_from("<IIQQQQIIQQ", file, table + size * number) for number in range(count)]
        contents = [file[offset : offset + length] for _, _, _, _, offset, length, *_ in headers]
        self.names = [text(contents[names], header[0]) for header in headers]
        self.content = dict(zip(self.names, contents, strict=True))
        self.code = [code for header, code in zip(headers, contents, strict=True) if header[2] & EXECUTABLE]
        symbols = next(number for number, header in enumerate(headers) if header[1] == SYMTAB)
        self.symbols, self.symbol_names = contents[symbols], contents[headers[symbols][6]]


class Btf:
    """The types in an object's section .BTF."""

    def __init__(self, path: Path) -> None:
        btf = _Sections(path).content[".BTF"]
        _, _, _, header, types, types_length, strings, _ = struct.unpack_from("<HBBIIIII", btf)
        self._strings = btf[header + strings :]
        self._types = [Type("void", 0, 0, b"")]
        at, end = header + types, header + types + types_length
        while at < end:
            name, info, size = struct.unpack_from("<III", btf, at)
            kind, count = info >> 24 & 31, info & 0xFFFF
            at += 12
            members = btf[at : at + ONCE.get(kind, 0) + EACH.get(kind, 0) * count]
            self._types.append(Type(text(self._strings, name), kind, size, members))
            at += len(members)

    def enum(self, name: str) -> dict[str, int]:
        """The values of an enum."""
        members = struct.iter_unpack("<Ii", self._find(name, ENUM).members)
        return {text(self._strings, member): value for member, value in members}

    def fields(self, name: str) -> dict[str, Field]:
        """The members of a struct, in its order. A union without a name is called by its members."""
        members = struct.iter_unpack("<III", self._find(name, STRUCT).members)
        return {self._name(member, kind): Field(bits // 8, self._size(kind)) for member, kind, bits in members}

    def size(self, name: str) -> int:
        """The size of a struct."""
        return self._find(name, STRUCT).size

    def arguments(self, function: str) -> list[str]:
        """The structs that a function is given pointers to."""
        parameters = struct.iter_unpack("<II", self._types[self._find(function, FUNC).size].members)
        pointers = [self._types[kind] for _, kind in parameters if self._types[kind].kind == POINTER]
        targets = [self._plain(pointer.size) for pointer in pointers]
        return [target.name for target in targets if target.kind == STRUCT]

    def _find(self, name: str, kind: int) -> Type:
        for one in self._types:
            if (one.name, one.kind) == (name, kind):
                return one
        raise LookupError(f"the object's BTF does not describe {name}: nothing that it keeps refers to it")

    def _name(self, name: int, number: int) -> str:
        if text(self._strings, name):
            return text(self._strings, name)
        return "/".join(
            text(self._strings, one) for one, _, _ in struct.iter_unpack("<III", self._types[number].members)
        )

    def _plain(self, number: int) -> Type:
        """A type without its other names and qualifiers."""
        it = self._types[number]
        return self._plain(it.size) if it.kind in ALIASES else it

    def _size(self, number: int) -> int:
        it = self._plain(number)
        if it.kind == ARRAY:
            element, _, count = struct.unpack("<III", it.members)
            return self._size(element) * int(count)
        return 8 if it.kind == POINTER else it.size
