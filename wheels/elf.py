"""What a compiled extension must and must not have; each check is a function that yields what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection

from wheels.targets import Target

__all__ = ["CHECKS", "Module", "faults"]

NEEDED = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
GLIBC = (2, 17)
# Weak, and looked for by what gcc puts into every library; none is called unless there.
_OF_THE_COMPILER = {"__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}
# What musl has had since 1.2.2 to 1.2.5 (its WHATSNEW and history); musllinux_1_2 promises 1.2.0.
NEWER_MUSL = {"_Fork", "gettid", "reallocarray", "tcgetwinsize", "tcsetwinsize", "qsort_r", "pthread_getname_np"}
NEWER_MUSL |= {"statx", "preadv2", "pwritev2"}
_RWX, _EXECUTABLE = 7, 1
_PAGES = {"aarch64": 0x10000, "x86_64": 0x1000}
"""The largest that a kernel may have."""
_PLACES = rb"/(?:home|root|tmp|work|build|Users)/[\w./+-]{3,}"


@dataclass
class Module:
    """What the dynamic loader, and who looks for symbols, sees of a shared object."""

    machine: str
    defined: set[str] = field(default_factory=set)
    undefined: dict[str, str | None] = field(default_factory=dict)
    """Name: version."""
    needed: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    """The kinds of dynamic entries, as DT_RPATH; flags among them, as TEXTREL."""
    sections: set[str] = field(default_factory=set)
    stack: int = _RWX
    """Rights of the stack; without the header that says it, the kernel makes it executable."""
    alignment: int = 0
    """The smallest of any loaded segment."""
    relro: bool = False
    content: bytes = b""

    @classmethod
    def read(cls, path: Path) -> Module:
        with path.open("rb") as file:
            elf = ELFFile(file)
            module = cls({"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}.get(elf["e_machine"], elf["e_machine"]))
            module.content = path.read_bytes()
            sections = list(elf.iter_sections())
            module.sections = {section.name for section in sections}
            module._symbols(sections)
            for section in sections:
                if isinstance(section, DynamicSection):
                    module._dynamic(section)
            loaded = []
            for segment in elf.iter_segments():
                kind = segment["p_type"]
                if kind == "PT_GNU_STACK":
                    module.stack = segment["p_flags"]
                elif kind == "PT_LOAD":
                    loaded.append(segment["p_align"])
                module.relro |= kind == "PT_GNU_RELRO"
            module.alignment = min(loaded, default=0)
        return module

    def _symbols(self, sections: Sequence[object]) -> None:
        tables = [each for each in sections if isinstance(each, SymbolTableSection) and each.name == ".dynsym"]
        indices = next((each for each in sections if isinstance(each, GNUVerSymSection)), None)
        versions: dict[int, str] = {}
        for section in sections:
            if isinstance(section, GNUVerNeedSection):
                versions |= {each["vna_other"]: each.name for _, needed in section.iter_versions() for each in needed}
        for number, symbol in enumerate(tables[0].iter_symbols() if tables else []):
            if symbol["st_info"]["bind"] == "STB_LOCAL":
                continue
            if symbol["st_shndx"] == "SHN_UNDEF":
                index = indices.get_symbol(number)["ndx"] if indices else None
                self.undefined[symbol.name] = versions.get(index & 0x7FFF) if isinstance(index, int) else None
            else:
                self.defined.add(symbol.name)

    def _dynamic(self, section: DynamicSection) -> None:
        for entry in section.iter_tags():
            self.tags.add(entry.entry.d_tag)
            if entry.entry.d_tag == "DT_NEEDED":
                self.needed.add(str(getattr(entry, "needed", "")))
            if entry.entry.d_tag == "DT_FLAGS":
                self.tags |= {name for name, bit in (("TEXTREL", 4), ("BIND_NOW", 8)) if entry.entry.d_val & bit}


def processor(module: Module, target: Target) -> Iterator[str]:
    if module.machine != target.machine:
        yield f"it is compiled for {module.machine}"
    if module.alignment < _PAGES[target.machine]:
        yield f"its segments are aligned to {module.alignment:#x} bytes, less than the largest page of {target.machine}"


def exports(module: Module, target: Target) -> Iterator[str]:
    """Names that others see may be taken over by theirs, or take theirs over."""
    wrong = module.defined - {"PyInit__rdknotify"}
    if wrong:
        yield f"{len(wrong)} symbols but PyInit__rdknotify are exported: {_some(wrong)}"
    if "PyInit__rdknotify" not in module.defined:
        yield "PyInit__rdknotify is not exported"


def imports(module: Module, target: Target) -> Iterator[str]:
    """Symbols that the oldest C library of the tag has not: the import fails there, or the first call."""
    asked = {name: version for name, version in module.undefined.items() if not name.startswith(("Py", "_Py"))}
    if target.libc == "musl":
        newer = NEWER_MUSL & set(asked)
        if newer:
            yield f"musl 1.2.0 has no {_some(newer)}"
        versioned = {name for name, version in asked.items() if version}
        if versioned:
            yield f"musl has no versions of symbols: {_some(versioned)}"
        return
    unversioned = {name for name, version in asked.items() if not version} - _OF_THE_COMPILER
    if unversioned:
        yield f"undefined and of no version: {_some(unversioned)}"
    newest = {f"{name}@{version}" for name, version in asked.items() if version and not _old_enough(version)}
    if newest:
        yield f"not in glibc {GLIBC[0]}.{GLIBC[1]}: {_some(newest)}"


def _old_enough(version: str) -> bool:
    number = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", version)
    return bool(number) and (int(number[1]), int(number[2])) <= GLIBC if number else False


def libraries(module: Module, target: Target) -> Iterator[str]:
    """Libraries that it looks for, and where."""
    allowed = NEEDED if target.libc == "glibc" else {f"libc.musl-{target.machine}.so.1"}
    if module.needed - allowed:
        yield f"it needs {_some(module.needed - allowed)}, which a machine may not have"
    if not module.needed:
        yield "it needs no C library, so none is loaded for it"
    for tag in {"DT_RPATH", "DT_RUNPATH"} & module.tags:
        yield f"it has an {tag[3:]}, which names folders of the machine that built it"


def hardening(module: Module, target: Target) -> Iterator[str]:
    if {"DT_TEXTREL", "TEXTREL"} & module.tags:
        yield "its code is changed when it is loaded (text relocations), which SELinux forbids"
    if module.stack & _EXECUTABLE:
        yield "it asks for an executable stack"
    if not module.relro or not {"BIND_NOW", "DT_BIND_NOW"} & module.tags:
        yield "its tables of functions stay writable: -z relro -z now"
    if "DT_RELR" in module.tags:
        yield "its relocations are packed (RELR), which neither glibc 2.17 nor musl 1.2.0 reads"


def strip(module: Module, target: Target) -> Iterator[str]:
    left = {name for name in module.sections if name == ".symtab" or name.startswith((".debug", ".zdebug"))}
    if left:
        yield f"it is not stripped: {_some(left)}"


def places(module: Module, target: Target) -> Iterator[str]:
    """Paths of the machine that built it: the next one gives other bytes, and they tell about it."""
    found = {
        match.decode() for match in re.findall(rb"/(?:home|root|tmp|work|build|Users)/[\w./+-]{3,}", module.content)
    }
    if found:
        yield f"it has {len(found)} paths of the machine that built it: {_some(found)}"


CHECKS: tuple[Callable[[Module, Target], Iterator[str]], ...] = (
    processor,
    exports,
    imports,
    libraries,
    hardening,
    strip,
    places,
)


def faults(path: Path, target: Target) -> list[str]:
    """What is wrong with an extension for this target; nothing, if it may go into a wheel."""
    module = Module.read(path)
    return [fault for check in CHECKS for fault in check(module, target)]


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (" ..." if len(names) > 5 else "")
