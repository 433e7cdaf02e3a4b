"""An extension that is not fit for every machine is refused, whatever makes it unfit: real shared objects, spoiled."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from support.wheels import EXPORT, HERE, shared_object

from wheels.elf import Module, faults, hardening, imports, libraries, processor
from wheels.targets import TARGETS, Target

pytestmark = pytest.mark.skipif(
    HERE not in TARGETS or platform.libc_ver()[0] != "glibc", reason="the compiler at hand compiles for no target"
)
OTHER = Target("aarch64" if HERE.machine == "x86_64" else "x86_64", "glibc")

# What is added to a good one: C, flags, and what is said of it.
SPOILED = {
    "exports": (EXPORT + "int rd_kafka_new(void) { return 0; }", [], "are exported: rd_kafka_new"),
    "unversioned": ("int nowhere(void); int f(void) { return nowhere(); } int (*g)(void) = nowhere;", [], "no version"),
    "too new": ('__asm__(".symver getrandom, getrandom@GLIBC_2.25"); int getrandom(); int (*r)() = getrandom;', [],
                "not in glibc 2.17: getrandom@GLIBC_2.25"),
    "rpath": ("", ["-Wl,-rpath,/opt/lib", "-Wl,--disable-new-dtags"], "it has an RPATH"),
    "runpath": ("", ["-Wl,-rpath,/opt/lib", "-Wl,--enable-new-dtags"], "it has an RUNPATH"),
    "text relocations": ('__asm__(".text\\n.balign 8\\n.quad PyInit__rdknotify + 1\\n");', ["-Wl,-z,notext"],
                         "text relocations"),
    "executable stack": ("", ["-Wl,-z,execstack"], "executable stack"),
    "writable tables": ("", ["-Wl,-z,norelro"], "stay writable"),
    "late binding": ("", ["-Wl,-z,lazy"], "stay writable"),
    "places": ('const char *where = "/home/builder/rdknotify/src/rdkafka.c";', [], "/home/builder/rdknotify/src"),
}  # fmt: skip


def test_nothing_is_wrong_with_a_good_one(tmp_path: Path) -> None:
    assert faults(shared_object(tmp_path / "good.so"), HERE) == []


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_spoiled_is_refused_for_that_only(tmp_path: Path, name: str) -> None:
    more, flags, said = SPOILED[name]
    (found,) = faults(shared_object(tmp_path / "bad.so", more, *flags), HERE)
    assert said in found


def test_without_its_entry_it_is_none(tmp_path: Path) -> None:
    (found,) = faults(shared_object(tmp_path / "bad.so", core=EXPORT + "int PyInit_other"), HERE)[1:]
    assert found == "PyInit__rdknotify is not exported"


def test_symbols_that_nobody_needs_are_found(tmp_path: Path) -> None:
    assert faults(shared_object(tmp_path / "bad.so", strip=False), HERE) == ["it is not stripped: .symtab"]


def test_a_library_that_a_machine_may_not_have(tmp_path: Path) -> None:
    shared_object(tmp_path / "libother.so", EXPORT + "int other(void) { return 0; }")
    path = shared_object(tmp_path / "bad.so", "", f"-L{tmp_path}", "-Wl,--no-as-needed", "-lother")
    assert faults(path, HERE) == ["it needs libother.so, which a machine may not have"]


def test_it_is_for_one_processor_and_one_library(tmp_path: Path) -> None:
    path = shared_object(tmp_path / "good.so")
    assert f"it is compiled for {HERE.machine}" in faults(path, OTHER)
    for_musl = " ".join(faults(path, Target(HERE.machine, "musl")))
    assert "musl has no versions of symbols: " in for_musl and "it needs libc.so.6" in for_musl


def test_what_the_compiler_at_hand_cannot_be_made_to_do() -> None:
    musl, arm = Target("x86_64", "musl"), Target("aarch64", "glibc")
    assert list(imports(Module("x86_64", undefined={"gettid": None, "PyErr_Fetch": None, "read": None}), musl)) == [
        "musl 1.2.0 has no gettid"
    ]
    assert list(libraries(Module("x86_64", needed={"libc.musl-x86_64.so.1"}), musl)) == []
    assert "aligned to 0x1000 bytes" in next(processor(Module("aarch64", alignment=0x1000), arm))
    packed = Module("aarch64", tags={"DT_RELR", "BIND_NOW"}, relro=True, stack=6)
    assert [fault for fault in hardening(packed, arm) if "RELR" in fault] == list(hardening(packed, arm))
