"""What the structs of the ABI have in common: a fixed layout, and fields that refuse what they cannot hold.

A struct is written as a class with annotations, in the order of the C declaration:

    @struct
    class VfioGroupStatus(Struct):
        argsz: U32
        flags: U32

The layout is that of Linux on x86-64 on every host: fixed-size integers, little-endian, and every hole that a C
compiler would leave is written out as a `_pad` field.

Names that begin with one underscore are not part of the ABI: such a field cannot be reached, such a class is not in
STRUCTS, and the members of an Overlay are fields of the struct around it.

A field whose name begins with two underscores (`__reserved`) cannot be reached by attribute from inside a class body,
where Python rewrites such names; `get("__reserved")` and `set("__reserved", 0)` work everywhere.
"""

import ctypes
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Annotated, Any, ClassVar, Literal, TypeVar

U8 = Annotated[int, ctypes.c_uint8]
U16 = Annotated[int, ctypes.c_uint16]
U32 = Annotated[int, ctypes.c_uint32]
S32 = Annotated[int, ctypes.c_int32]
U64 = Annotated[int, ctypes.c_uint64]
FdIn = Annotated[int, ctypes.c_int32, "fd_in"]  # a file descriptor that the caller gives
FdOut = Annotated[int, ctypes.c_uint32, "fd_out"]  # a file descriptor that the kernel made
Ptr = Annotated[int, ctypes.c_uint64, "ptr"]  # the address of a buffer in the memory of the caller
BytesAfter = Annotated[Sequence[int], ctypes.c_uint8 * 0]  # bytes that follow the struct; they are not part of it

Role = Literal["", "fd_in", "fd_out", "ptr"]
Kind = Literal["int", "array", "struct"]


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a struct, and where it lies in it.

    Fields of a nested struct have dotted names; they follow the entry of the struct itself (kind "struct").
    """

    name: str
    offset: int
    size: int
    kind: Kind
    signed: bool = False
    count: int = 0  # elements of an array; 0 also for one that follows the struct, of any length
    elem_size: int = 0
    struct: str = ""  # the kernel's name of the nested struct, or of the array's elements
    role: Role = ""


Members = dict[str, tuple[Any, Role]]  # name -> C type and role, as declared
STRUCTS: dict[str, type["Struct"]] = {}
Layout = TypeVar("Layout", bound="type[Struct] | type[Overlay]")


class Overlay(ctypes.LittleEndianUnion):
    """Base of the unions inside the structs, all without a name: the members begin at the same byte."""

    _members: ClassVar[Members]


class Struct(ctypes.LittleEndianStructure):
    """Base of the ABI structs; make one with `VfioDeviceInfo(flags=0)`.

    * Fields left out are 0, but a first field named `argsz` (VFIO) or `size` (iommufd) is then the size of the struct:
      this is how caller and kernel agree on its version. `from_buffer_copy` and the elements of an array get nothing.
    * An integer must fit its field, seen as signed or as unsigned: -1 is all ones, as in C. Others are a ValueError.
    * An array is assigned as a whole, from a sequence or bytes; what is missing is 0.
    * A nested struct is assigned from a struct or a mapping, or field by field.
    """

    kernel_name: ClassVar[str] = ""
    of_one_call: ClassVar[bool] = True  # it lies on the stack of a call, where nobody else sees what is stored
    _members: ClassVar[Members]
    _all: ClassVar[tuple[Member, ...]]
    _direct: ClassVar[dict[str, Member]]  # by attribute name

    def __init__(self, **values: Any) -> None:
        super().__init__()
        cls = type(self)
        first = cls._all[0].name
        if first in ("argsz", "size"):
            super().__setattr__(first, ctypes.sizeof(cls))
        for name, value in values.items():
            try:
                self.set(name, value)
            except AttributeError:
                raise TypeError(cls._no_field(name)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        field = self._direct.get(name)
        if field is None:
            raise AttributeError(self._no_field(name))
        if field.kind == "int":
            value = self._integer(field.name, field.size, value)
        elif field.kind == "array":
            value = self._elements(field, value)
        elif isinstance(value, Mapping):
            value = type(getattr(self, name))(**value)
        super().__setattr__(name, value)

    @classmethod
    def _integer(cls, name: str, size: int, value: Any) -> int:
        try:
            number = index(value)
        except TypeError:
            raise TypeError(f"{cls.kernel_name}.{name} takes an integer, not {value!r}") from None
        low, high = -(1 << 8 * size - 1), (1 << 8 * size) - 1
        if not low <= number <= high:
            raise ValueError(f"{cls.kernel_name}.{name} has {8 * size} bits and takes {low} to {high}, not {number}")
        return number

    @classmethod
    def _elements(cls, field: Member, value: Any) -> tuple[int, ...]:
        values = tuple(value)
        if len(values) > field.count:
            hint = "" if field.count else "; what follows the struct is appended to its bytes"
            raise ValueError(f"{cls.kernel_name}.{field.name} has {field.count} elements, not {len(values)}{hint}")
        return tuple(cls._integer(f"{field.name}[{i}]", field.elem_size, item) for i, item in enumerate(values))

    @classmethod
    def _no_field(cls, name: str) -> str:
        return f"{cls.kernel_name} has no field {name!r}; its fields are {', '.join(cls._direct)}"

    @classmethod
    def fields(cls) -> tuple[Member, ...]:
        """All fields in the order of the declaration, those of nested structs under dotted names."""
        return cls._all

    def get(self, name: str) -> Any:
        """The value of a field; the name may be dotted."""
        value: Any = self
        for part in name.split("."):
            value = getattr(value, part)
        return value

    def set(self, name: str, value: Any) -> None:
        """Change a field; the name may be dotted."""
        outer, _, last = name.rpartition(".")
        setattr(self.get(outer) if outer else self, last, value)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """The name and value of every integer and array, so that `dict(status)` works; arrays are lists."""
        for field in self._all:
            if field.kind != "struct":
                value = self.get(field.name)
                yield field.name, list(value) if field.kind == "array" else value

    def shown(self) -> dict[str, str]:
        """The fields that are worth a look, by their names, each as people read it."""
        return {name: self._show(field) for name, field in self._direct.items() if self._worth_showing(field)}

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value}" for name, value in self.shown().items())
        return f"{type(self).__name__.lstrip('_')}({fields})"

    def _show(self, field: Member) -> str:
        """Flags and everything of 64 bits (addresses, lengths, bitmaps) in hexadecimal."""
        value = getattr(self, field.name)
        if field.kind == "array":
            return f"[{', '.join(map(hex, value))}]"
        wide = field.size == 8 or "flags" in field.name
        return hex(value) if field.kind == "int" and wide else repr(value)

    def _worth_showing(self, field: Member) -> bool:
        """Not what takes no room, and not a reserved field that is 0 as it should be."""
        if field.size == 0 or not field.name.startswith("__"):
            return field.size > 0
        value = getattr(self, field.name)
        return any(value) if field.kind == "array" else value != 0


def struct(cls: Layout) -> Layout:
    """Turn the annotations of a Struct or Overlay into its layout."""
    private = f"_{cls.__name__.lstrip('_')}__"  # what Python makes of two underscores inside the class
    members: Members = {}
    for name, hint in cls.__annotations__.items():
        ctype, role = (hint, "") if isinstance(hint, type) else (*hint.__metadata__, "")[:2]
        members[f"__{name[len(private) :]}" if name.startswith(private) else name] = ctype, role
    cls._members = members
    cls._anonymous_ = [name for name, (ctype, _) in members.items() if issubclass(ctype, Overlay)]
    cls._fields_ = [(name, ctype) for name, (ctype, _) in members.items()]
    if issubclass(cls, Struct):
        cls.kernel_name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.lstrip("_")).lower()
        cls._all = tuple(_flat(cls, "", 0))
        cls._direct = {name: _field(name, *rest) for name, *rest in _attributes(cls, 0)}
        if not cls.__name__.startswith("_"):
            STRUCTS[cls.kernel_name] = cls
    return cls


def _attributes(cls: Any, base: int) -> Iterator[tuple[str, int, Any, Role]]:
    """Name, offset, type and role of the members, those of anonymous unions included."""
    for name, (ctype, role) in cls._members.items():
        offset = base + getattr(cls, name).offset
        if issubclass(ctype, Overlay):
            yield from _attributes(ctype, offset)
        elif not re.match("_[^_]", name):
            yield name, offset, ctype, role


def _flat(cls: Any, prefix: str, base: int) -> Iterator[Member]:
    """All members; a nested struct whose type has no name in the kernel has no entry of its own."""
    for name, offset, ctype, role in _attributes(cls, base):
        field = _field(prefix + name, offset, ctype, role)
        if field.kind != "struct" or field.struct:
            yield field
        if field.kind == "struct":
            yield from _flat(ctype, field.name + ".", offset)


def _field(name: str, offset: int, ctype: Any, role: Role) -> Member:
    size = ctypes.sizeof(ctype)
    if issubclass(ctype, ctypes.Array):
        element, count = ctype._type_, ctype._length_
        return Member(name, offset, size, "array", False, count, ctypes.sizeof(element), _name_of(element))
    if issubclass(ctype, Struct):
        return Member(name, offset, size, "struct", struct=_name_of(ctype))
    return Member(name, offset, size, "int", signed=ctype(-1).value < 0, role=role)


def _name_of(ctype: Any) -> str:
    """The kernel's name of a struct type; "" for an integer and for a type without name."""
    return ctype.kernel_name if issubclass(ctype, Struct) and not ctype.__name__.startswith("_") else ""
