"""A project with vendor/ and toys of the C sources, so that a real build with the real compiler takes a moment."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "vendor"
RECIPE = json.loads((VENDOR / "recipe.json").read_text())

PARTS = {
    "librdkafka": {
        "LICENSES.txt": "toy",
        "src/Makefile": "SRCS_$(WITH_ZSTD) += rdkafka_zstd.c\nSRCS_$(WITH_CURL) += rdhttp.c\n"
        "SRCS_LZ4 = rdxxhash.c\nSRCS_y += rdkafka_lz4.c $(SRCS_LZ4)\nSRCS=\t\trdkafka.c \\\n\t\t$(SRCS_y)\n",
        "src/rdkafka.h": "#define RD_KAFKA_VERSION 0x020f01ff\n",
        "src/rdkafka_mock.h": "",
        "src/rdkafka.c": '#include "../config.h"\nint rd_kafka(void) { return WITH_C11THREADS; }\n',
        "src/rdkafka_zstd.c": "#include <zstd.h>\nint rd_zstd(void) { return ZSTD_TOY; }\n",
        "src/rdkafka_lz4.c": "const char *rd_lz4 = __FILE__;\n",
        "src/rdxxhash.c": "int rd_xxhash;\n",
        "src/rdhttp.c": "#include <curl/curl.h>\nint rd_http = CURL_TOY;\n",
    },
    "zstd": {
        "LICENSE": "toy",
        "lib/zstd.h": "#define ZSTD_TOY 1\n",
        "lib/common/zstd_common.c": "int zstd_common;\n",
    },
    "openssl": {
        "LICENSE.txt": "toy",
        "VERSION.dat": "MAJOR=3\nMINOR=6\nPATCH=3\n",
        "Configure": 'open($f, ">", "Makefile"); print $f "build_libs:\\n\\tcc -c crypto/mem.c -o mem.o\\n'
        "\\tar qcD libcrypto.a mem.o\\n\\tcp libcrypto.a libssl.a\\n\"; print join(' ', @ARGV);",
        "crypto/mem.c": "const char *mem = __FILE__;\n",
        "include/openssl/ssl.h": "",
    },
    "zlib": {
        "LICENSE": "toy",
        "zlib.h": '#define ZLIB_VERSION "1.3.2"\n',
        "zconf.h": "",
        "inflate.c": "const char *inflate = __FILE__;\n",
        "gzread.c": "#error not wanted\n",
    },
    "curl": {
        "COPYING": "toy",
        "LICENSES/ISC.txt": "toy",
        "include/curl/curl.h": "#define CURL_TOY 1\n",
        "include/curl/curlver.h": '#define LIBCURL_VERSION "8.22.0"\n',
        "lib/vtls/openssl.c": "#include <zlib.h>\n#include <openssl/ssl.h>\n#include <curl_config.h>\n"
        "const char *curl = __FILE__;\n",
    },
}
BUNDLED = {"RDKNOTIFY_BUNDLED": "1"}
# cargo fetch puts a crate into its cache; cargo info says the version that a test wrote down.
CARGO = """cd="$PWD"; case $1 in
fetch)
    line=$(tail -n 1 "$cd/Cargo.toml"); name=${line%% *}; version=${line#*\\"=}; version=${version%?}
    mkdir -p "$HOME/.cargo/registry/cache/toy"
    cp ROOT/registry/$name-$version*.crate "$HOME/.cargo/registry/cache/toy" 2>/dev/null && exit
    printf 'error: failed to select a version for `%s`\\n\\nCaused by:\\n  toy has none\\n' "$name" >&2; exit 101;;
info) for word; do package=$word; done; cat "ROOT/registry/newest/$package";;
esac"""


class Project:
    """A folder with vendor/build.py, a recipe for the toys, and a PATH that has only what a test puts there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tools = root / "tools"
        self.calls = root / "calls.log"
        self.recipe = json.loads(json.dumps(RECIPE))
        for part in ("librdkafka", "openssl"):
            self.recipe[part]["changes"] = []  # those are for the real sources
        for folder in ("vendor", "tools", "registry"):
            (root / folder).mkdir()
        for module in VENDOR.glob("*.py"):
            shutil.copy(module, root / "vendor")
        shutil.copytree(VENDOR / "native", root / "vendor" / "native")
        for name, files in PARTS.items():
            self.publish(name, files)
        self.tool("cc", f'exec {shutil.which("cc")} "$@"')
        self.tool("ar", f'exec {shutil.which("ar")} "$@"')
        for name in ("perl", "make"):
            self.tool(name, f'PATH={self.tools}:$PATH exec {shutil.which(name)} "$@"')
        self.tool("cargo", CARGO.replace("ROOT", str(root)))
        self.tool(
            "npm",
            '[ "$1" = view ] && exec cat "ROOT/registry/newest/$(basename "$3")"\n'
            "for word; do case $word in --pack-destination=*) folder=${word#*=};; esac; done\n"
            'cp "ROOT/registry/$(basename "$word").tgz" "$folder" 2>/dev/null && exit\n'
            "echo 'npm error 404 toy has none' >&2; exit 1".replace("ROOT", str(root)),
        )

    def publish(self, name: str, files: dict[str, str], **pinned: str) -> None:
        """Put an archive where the toy npm or cargo finds it; what is pinned, and its checksum, into the recipe."""
        part = self.recipe[name]
        part |= pinned
        crate = part.get("crate", "").replace("@", "-")
        folder = f"{crate}/{part['folder']}" if crate else part["folder"]
        archive = self.root / "registry" / (f"{crate}.crate" if crate else f"{part['package'].rpartition('/')[2]}.tgz")
        with tarfile.open(archive, "w:gz") as tar:
            for path, text in files.items():
                member = tarfile.TarInfo(folder + path)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
        part["sha256"] = hashlib.sha256(archive.read_bytes()).hexdigest()

    def tool(self, name: str, script: str) -> None:
        path = self.tools / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\nPATH={os.environ["PATH"]}\n{script}\n')
        path.chmod(0o755)

    def source(self, folder: Path, version: str = "0x020f01ff") -> Path:
        """librdkafka's toy source as a folder."""
        for path, text in PARTS["librdkafka"].items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text.replace("0x020f01ff", version))
        return folder

    def start(
        self, limit: int | None = None, program: tuple[str, ...] = ("vendor/build.py",), **variables: str
    ) -> subprocess.Popen[str]:
        """A build in a process group of its own, which may write files of ``limit`` bytes only."""
        (self.root / "vendor" / "recipe.json").write_text(json.dumps(self.recipe, indent=2))

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job is started with SIGINT ignored
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.Popen(
            [sys.executable, *program],
            cwd=self.root,
            env={"PATH": str(self.tools), "HOME": str(self.root), **variables},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=prepare,
        )

    def build(self, **variables: str) -> tuple[Path, str]:
        """A build that must succeed: its prefix, and what it said."""
        process = self.start(**variables)
        output, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        return Path(output.strip()), said

    def refusal(self, **variables: str) -> str:
        """The one line with which a build ends that must fail."""
        return self.ended(self.start(**variables), 1)

    def ended(self, process: subprocess.Popen[str], status: int) -> str:
        """The last line of a build that was not to succeed; it must leave nothing that looks like a library."""
        output, said = process.communicate(timeout=60)
        assert process.returncode == status, said
        assert output == ""
        assert not list(self.root.glob("build/librdkafka-*"))
        assert not list(self.root.glob("build/tmp*"))
        assert "Traceback" not in said
        last = said.splitlines()[-1]
        assert last.startswith("vendor/build.py: ")
        return last

    def compiled(self) -> list[str]:
        """The C files compiled so far."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return sorted(Path(line.split(" -c ")[1].split()[0]).name for line in lines if " -c " in line)
