"""librdkafka compiled file by file: what its own configure would write is an argument here, for every target."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from vendor.compiler import Compiler
from vendor.recipe import RECIPE, BuildError
from vendor.sources import change, obtain

# What a source file of src/Makefile needs; the others are always compiled.
CONDITIONAL = {
    "WITH_SASL_SCRAM": "sasl_scram",
    "WITH_SASL_OAUTHBEARER": "sasl_oauthbearer",
    "WITH_SNAPPY": "snappy",
    "WITH_ZLIB": "zlib",
    "WITH_ZSTD": "zstd",
    "WITH_HDRHISTOGRAM": "hdrhistogram",
    "WITH_SSL": "ssl",
    "WITH_CURL": "curl",
    "WITH_OAUTHBEARER_OIDC": "oauthbearer_oidc",
}
ARCHIVE = "librdkafka.a"


def compile_into(prefix: Path, compiler: Compiler, features: list[str], given: Path | None, below: list[Path]) -> None:
    """librdkafka's archive (with zstd) and headers into a new folder, whose parent is for all that is in between.

    ``given`` is the user's own source; ``below`` are the prefixes of static libraries to be linked with it.
    """
    folder = prefix.parent
    original = (given or obtain("librdkafka")) / "src"
    # A copy, because librdkafka includes "../config.h", and a configured tree has one of its own.
    source = Path(shutil.copytree(original, folder / "src"))
    (folder / "config.h").write_text(config_h(compiler, features, static=bool(below)))
    shutil.copy(Path(__file__).parent / "native" / "random.h", folder)
    change(source, RECIPE["librdkafka"]["changes"], given)
    flags = ["-D_GNU_SOURCE", f"-I{source}", *(f"-I{path}/include" for path in below)]
    jobs = [(f"src/{name}", flags) for name in source_files(source, features)]
    if "zstd" in features:
        zstd = folder / "zstd"
        zstd.symlink_to(obtain("zstd") / "lib")
        flags.append(f"-I{zstd}")
        own = ["-DZSTD_DISABLE_ASM=1", "-DZSTD_TRACE=0"]
        jobs += [(str(path.relative_to(folder)), own) for path in sorted(zstd.glob("*/*.c"))]
    print(f"building librdkafka {version(original)}: {len(jobs)} files, about a minute", file=sys.stderr)
    compiler.compile_all(folder, jobs, prefix / "lib" / ARCHIVE)
    (prefix / "include").mkdir()
    for header in RECIPE["headers"]:
        shutil.copy(source / header, prefix / "include")


def version(source: Path) -> str:
    """The version that a header says, 0x020f01ff for 2.15.1."""
    number = re.search(
        r"^#define RD_KAFKA_VERSION +0x(\w\w)(\w\w)(\w\w)", (source / "rdkafka.h").read_text(), re.MULTILINE
    )
    if not number:
        raise BuildError(f"{source}/rdkafka.h says no version; is this librdkafka?")
    return ".".join(str(int(part, 16)) for part in number.groups())


def source_files(source: Path, features: list[str]) -> list[str]:
    """The files to compile, read out of librdkafka's own src/Makefile."""
    makefile = (source / "Makefile").read_text().replace("\\\n", " ")
    names = re.search(r"^SRCS=\s*(.*)$", makefile, re.MULTILINE)
    if not names:
        raise BuildError(f"{source}/Makefile has no list of sources; is this librdkafka {version(source)}?")
    files = [word for word in names[1].split() if word.endswith(".c")]
    files += re.findall(r"^SRCS_y \+=\s*(\S+\.c) \$\(SRCS_LZ4\)", makefile, re.MULTILINE)
    files += [word for line in re.findall(r"^SRCS_LZ4 \+?=(.*)$", makefile, re.MULTILINE) for word in line.split()]
    for condition, name in re.findall(r"^SRCS_\$\((\w+)\) \+=\s*(\S+\.c)", makefile, re.MULTILINE):
        if CONDITIONAL.get(condition) in features:
            files.append(name)
    return files


def config_h(compiler: Compiler, features: list[str], *, static: bool) -> str:
    """What librdkafka's configure would write for these features and the compiler's target.

    ``static``: OpenSSL is linked statically, and looks for certificates where its distribution has none.
    """
    macros = {f"WITH_{feature.upper()}": "1" for feature in features}
    known = "REGEX RAND_R STRNDUP STRERROR_R STRCASESTR ATOMICS_32 ATOMICS_32_ATOMIC ATOMICS_64 ATOMICS_64_ATOMIC"
    macros.update({f"HAVE_{name}": "1" for name in known.split()})
    # C11's threads are in glibc since 2.28, and not in macOS. ThreadSanitizer knows POSIX threads only.
    c11threads = compiler.system == "musl" or compiler.glibc >= (2, 28)
    if c11threads and "-fsanitize=thread" not in compiler.flags:
        macros["WITH_C11THREADS"] = "1"
    macros["HAVE_PTHREAD_SETNAME_DARWIN" if compiler.system == "darwin" else "HAVE_PTHREAD_SETNAME_GNU"] = "1"
    if compiler.machine == "x86_64":
        macros["WITH_CRC32C_HW"] = "1"
    if static:
        macros["WITH_STATIC_LIB_libcrypto"] = "1"
    if "ssl" in features:
        macros["OPENSSL_SUPPRESS_DEPRECATED"] = '"OPENSSL_SUPPRESS_DEPRECATED"'
    macros["BUILT_WITH"] = f'"{" ".join(feature.upper() for feature in features)}"'
    macros.update(SOLIB_EXT='".so"', ENABLE_DEVEL="0")
    lines = [f"#define {name} {value}" for name, value in macros.items()]
    atomic = "__atomic_ ## OP1 ## _ ## OP2(PTR, VAL, __ATOMIC_SEQ_CST)"
    lines += [f"#define {name}(OP1, OP2, PTR, VAL) {atomic}" for name in ("ATOMIC_OP32", "ATOMIC_OP64", "ATOMIC_OP")]
    return "\n".join(["#pragma once", *lines, ""])
