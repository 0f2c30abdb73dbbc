"""Which files are in a folder or a ZIP file, and how their bytes are read. What is in them, images.py knows."""

import os
import stat
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ganfleet.data.images import SUFFIXES
from ganfleet.errors import ConfigError, DataError, printable

UTF8 = 0x800  # the flag of a ZIP file's member whose name is UTF-8
KINDS_SHOWN = 8
LINKS, PIPES = "links to what is there under another name", "pipes, sockets or devices"


@dataclass(frozen=True)
class Files:
    """The files in a folder or an archive; hidden ones are left out.

    Attributes:
        place: goes before a name in messages.
        names: paths of the images within the place, with ``/``, sorted.
        read: the bytes of the file of a name, from any thread.
        stamps: what changes when one of the images does, made of lists, strings and numbers.
        others: names of the files that are no images.
        left_out: how many there are of what is no file of its own, by what it is: links to other names, or pipes.
        wrapper: the folders that all images are in where these mean nothing, with a ``/`` at the end.
    """

    place: str
    names: list[str]
    read: Callable[[str], bytes]
    stamps: Callable[[], list] = field(repr=False)
    others: list[str]
    left_out: dict[str, int] = field(default_factory=dict)
    wrapper: str = ""

    def only(self, names: list[str]) -> "Files":
        """The same place with these images alone, as if it held no others."""
        return replace(self, names=names, stamps=lambda: [names, *self.stamps()])

    def describe(self, name: str) -> str:
        return printable(self.place + name)

    def notes(self, used: Iterable[str] = ()) -> list[str]:
        """What is left out, and why. ``used`` are names among ``others`` that were of use."""
        others, place, notes = without(self.others, used), self.describe("").rstrip(":/"), []
        if others:
            are = "1 file is no image" if len(others) == 1 else f"{len(others):,} files are no images"
            notes.append(f"{place}: {are} that ganfleet reads: {listed(kinds(others))}")
        if self.left_out:
            notes.append(f"{place}: left out: {', '.join(f'{what} ({n:,})' for what, n in self.left_out.items())}")
        return notes


def without(names: Iterable[str], used: Iterable[str]) -> list[str]:
    used = set(used)
    return [name for name in names if name not in used]


def kinds(names: Iterable[str]) -> dict[str, int]:
    """How many of ``names`` have each suffix, the most frequent first."""
    counts = Counter(printable(PurePosixPath(name).suffix.lower()) or "without a suffix" for name in names)
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def listed(counts: dict[str, int]) -> str:
    """``10 .heic, 2 .txt``, of ``counts`` in their order."""
    shown = [f"{count:,} {what}" for what, count in list(counts.items())[:KINDS_SHOWN]]
    rest = list(counts.values())[KINDS_SHOWN:]
    return ", ".join([*shown, f"{sum(rest):,} of {len(rest)} other kinds"] if rest else shown)


def files_at(path: Path) -> Files:
    """What is in the folder or ZIP file at ``path``; raises as ``folder_files`` and ``zip_files`` do."""
    return folder_files(path) if path.is_dir() else zip_files(path)


# ── Folders


def folder_files(root: Path) -> Files:
    """The files in ``root`` and below it, each real one once.

    Raises:
        ConfigError: it is no folder, or there is no image in it.
        DataError: a folder cannot be listed.
    """
    if not root.is_dir():
        raise ConfigError(f"data.path: {root} is not a folder: choose one, or data.source: zip for a ZIP file")
    found = Walk(root)
    names = images_among(found.names)

    def read(name: str) -> bytes:
        return (root / name).read_bytes()

    def stamps() -> list:
        return [str(root.resolve()), *([name, *stamp_of(root / name)] for name in names)]

    files = Files(f"{root}/", names, read, stamps, without(found.names, names), found.left_out)
    refuse_if_empty(files, root)
    return files


def files_below(root: Path) -> list[str]:
    """Paths of all files below ``root`` that are not hidden, relative to it, each real one once.

    Raises:
        DataError: a folder cannot be listed, which does not mean that it is empty.
    """
    return Walk(root).names


class Walk:
    """All files below a folder. Links are followed, to each real folder and each real file once.

    Whatever the file system's order, what is really there keeps its own path, and a link's gets what it alone leads to.

    Attributes:
        names: relative paths.
        left_out: as of Files.
    """

    def __init__(self, root: Path):
        self.names: list[str] = []
        self.left_out: Counter[str] = Counter()
        self._folders: set[str] = set()  # real paths of those that have been listed
        self._links_to_folders: list[tuple[str, str]] = []  # names, and where they lead
        self._links_to_files: list[tuple[str, str]] = []
        self._list(os.path.realpath(root), "")
        while self._links_to_folders:
            name, real = self._links_to_folders.pop(0)
            if real in self._folders:
                self.left_out[LINKS] += 1
            else:
                self._list(real, f"{name}/")
        files: set[str] = set()
        for name, real in sorted(self._links_to_files):
            folder, base = os.path.split(real)
            found = folder in self._folders and not hidden(base) and os.path.exists(real)
            if found or real in files:
                self.left_out[LINKS] += 1
            elif os.path.exists(real) and not os.path.isfile(real):
                self.left_out[PIPES] += 1
            else:
                files.add(real)
                self.names.append(name)

    def _list(self, real: str, prefix: str) -> None:
        """List the folder with this real path and all below it that has not been listed yet."""
        links: list[tuple[str, str]] = []
        todo = [(real, prefix)]
        while todo:
            folder, prefix = todo.pop()
            if folder in self._folders:
                continue
            self._folders.add(folder)
            try:
                entries = list(os.scandir(folder))
            except OSError as error:
                raise DataError(
                    f"{error.filename} cannot be listed: {error.strerror}. Correct its permissions"
                ) from error
            for entry in entries:
                name = prefix + entry.name
                if hidden(entry.name):
                    continue
                if entry.is_symlink():
                    links.append((name, os.path.realpath(entry.path)))
                elif entry.is_dir():
                    todo.append((entry.path, f"{name}/"))
                elif entry.is_file():
                    self.names.append(name)
                else:  # reading it might never end
                    self.left_out[PIPES] += 1
        for name, to in sorted(links):
            (self._links_to_folders if os.path.isdir(to) else self._links_to_files).append((name, to))


def stamp_of(path: Path) -> tuple[int, ...]:
    """Size and time of the last change; empty for a file that went away."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns


# ── ZIP files


def zip_files(path: Path) -> Files:
    """The files in a ZIP file, which often wraps all it holds in one folder: that is no class.

    Raises:
        ConfigError: it is no file, or there is no image in it.
        DataError: it is damaged, or no ZIP file.
    """
    if path.is_dir():
        raise ConfigError(f"data.path: {path} is a folder: choose a ZIP file, or data.source: folder for this one")
    if path.exists() and not path.is_file():  # reading it might never end
        raise ConfigError(f"data.path: {path} is neither a folder nor a regular file: choose a folder or a ZIP file")
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read as a ZIP file: {error}. Give a folder, or if it should be one, make it anew"
        ) from error
    inside = {path_of(member): member for member in archive.infolist()}
    inside = {name: member for name, member in inside.items() if not (name.endswith("/") or hidden(name))}
    files = {name: member for name, member in inside.items() if not stat.S_ISLNK(member.external_attr >> 16)}
    names = sorted(images_among(files), key=lambda name: files[name].filename)
    one_at_a_time = threading.Lock()  # ZipFile counts its open members without one

    def read(name: str) -> bytes:
        with one_at_a_time:
            return archive.read(files[name])

    def stamps() -> list:
        members = (files[name] for name in names)
        return [
            str(path.resolve()),
            stamp_of(path),
            *([member.filename, member.file_size, member.CRC] for member in members),
        ]

    left_out = {LINKS: len(inside) - len(files)} if len(inside) > len(files) else {}
    found = Files(f"{path}:", names, read, stamps, without(files, names), left_out, common_folder(names))
    refuse_if_empty(found, path)
    return found


def path_of(member: zipfile.ZipInfo) -> str:
    """The name of a ZIP file's member as a path with ``/``.

    A name that is not marked as UTF-8 is code page 437 by the standard; some systems write UTF-8 all the same. Some
    Windows programs write backslashes.
    """
    name = member.filename
    if not member.flag_bits & UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


# ── Names


def refuse_if_empty(files: Files, path: Path) -> None:
    """
    Raises:
        ConfigError: there are no images.
    """
    if not files.names:
        there = f", only {listed(kinds(files.others))}" if files.others else ""
        raise ConfigError(
            f"data.path: there are no images ({', '.join(SUFFIXES)}) in {path}{there}: choose another place"
        )


def images_among(names: Iterable[str]) -> list[str]:
    """The images, sorted, so that no file system has a say in the order. Hidden files are left out."""
    return sorted(name for name in set(names) if name.lower().endswith(SUFFIXES) and not hidden(name))


def hidden(name: str) -> bool:
    """Whether a path leads through anything hidden, or is what macOS adds to a ZIP file."""
    return any((part.startswith(".") and part != ".") or part == "__MACOSX" for part in name.split("/"))


def common_folder(names: list[str]) -> str:
    """The folders that all of ``names`` are in, with a ``/`` at the end; empty where there are none."""
    if len({name.startswith("/") for name in names}) != 1:  # none, or absolute ones beside others
        return ""
    common = os.path.commonpath([os.path.dirname(name) for name in names])
    return f"{common}/" if common else ""
