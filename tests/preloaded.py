"""Disks that fail: libraries for LD_PRELOAD that answer in their place, in C code too."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
typedef int (*call)(int, int, ...);
static int answer(const char *name, int file, int command, void *argument) {
    if (command == F_SETLK || command == F_SETLKW) { errno = ENOLCK; return -1; }
    return ((call)dlsym(RTLD_NEXT, name))(file, command, argument);
}
int flock(int file, int operation) { errno = ENOLCK; return -1; }
int lockf(int file, int command, off_t length) { errno = ENOLCK; return -1; }
int fcntl(int file, int command, ...) {
    va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest);
    return answer("fcntl", file, command, argument);
}
int fcntl64(int file, int command, ...) {
    va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest);
    return answer("fcntl64", file, command, argument);
}
"""

# Reads of the middle of the file with $FAULTS_EIO_ON in its name, where its pixels are.
_EIO = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static int fails(int file, off_t from, size_t size) {
    char link[64], path[4096]; struct stat is; const char *word = getenv("FAULTS_EIO_ON");
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!word || length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, word) || fstat(file, &is) || !S_ISREG(is.st_mode)) return 0;
    if (from + (off_t)size <= is.st_size / 4 || from >= is.st_size / 4 * 3) return 0;
    errno = EIO;
    return 1;
}
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
ssize_t pread64(int file, void *to, size_t size, off64_t from) {
    return fails(file, from, size) ? -1 : REAL(pread64)(file, to, size, from);
}
ssize_t pread(int file, void *to, size_t size, off_t from) { return pread64(file, to, size, from); }
ssize_t read(int file, void *to, size_t size) {
    off_t from = lseek(file, 0, SEEK_CUR);
    return from >= 0 && fails(file, from, size) ? -1 : REAL(read)(file, to, size);
}
size_t fread(void *to, size_t one, size_t number, FILE *file) {
    off_t from = ftello(file);
    return from >= 0 && fails(fileno(file), from, one * number) ? 0
        : REAL(fread)(to, one, number, file);
}
"""


def library_without_locks(folder: Path) -> str:
    """A library that makes every lock fail with ENOLCK."""
    return _library(folder, "no_locks", _NO_LOCKS)


def library_with_eio(folder: Path) -> str:
    """A library that makes reads of pixels fail with EIO, of the file that FAULTS_EIO_ON names."""
    return _library(folder, "eio", _EIO)


def _library(folder: Path, name: str, text: str) -> str:
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler")
    source, library = folder / f"{name}.c", folder / f"{name}.so"
    source.write_text(text)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)
