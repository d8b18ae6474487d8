"""Hostile archives, each made here: none leaves its folder, none fills the disk, each is refused by name."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.catalog.archive import Caps, unpack, write
from services.kit.errors import Invalid, Refusal, TooLarge

SMALL = Caps(members=20, member_bytes=4 * 1024 * 1024, total_bytes=8 * 1024 * 1024, ratio=50)


def zip_of(members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            archive.writestr(info, data)
    return made.getvalue()


def tar_of(*members: tuple[str, bytes, bytes], link: str = "", pax: dict[str, str] | None = None) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname, info.pax_headers = kind, len(data), link, pax or {}
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def opened(data: bytes, tmp_path: Path, caps: Caps = SMALL) -> dict[str, bytes]:
    (tmp_path / "archive").write_bytes(data)
    folder = tmp_path / "folder"
    folder.mkdir()
    try:
        names = unpack(tmp_path / "archive", folder, caps)
        return {name: (folder / name).read_bytes() for name in names}
    finally:
        outside = {path.name for path in tmp_path.iterdir()} - {"archive", "folder"}
        assert not outside, "a member left its folder"
        assert not any(path.is_symlink() for path in folder.rglob("*"))


GOOD = {"fairlead.yaml": b"name: a", "deep/er/model.onnx": bytes(range(256)) * 2000, "empty": b""}


@pytest.mark.parametrize("wrapped", [False, True])
def test_zip_and_tar_give_the_same_files(wrapped: bool, tmp_path: Path) -> None:
    prefix = "./" if wrapped else ""
    as_tar = tar_of(("./" if wrapped else "deep", tarfile.DIRTYPE, b""),
                    *((prefix + name, tarfile.REGTYPE, data) for name, data in GOOD.items()))  # fmt: skip
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert opened(as_tar, tmp_path / "a") == opened(zip_of(GOOD | {"deep/": b""}), tmp_path / "b") == GOOD


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_every_tar_dialect_are_read(format_: int, tmp_path: Path) -> None:
    name = f"{'d' * 80}/{'f' * 90}"
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=format_) as archive:
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    assert opened(made.getvalue(), tmp_path) == {name: b"abc"}


NAMES = [
    "../evil", "/etc/evil", "a/../../evil", "a//b", "./../evil", "C:evil", "a\\..\\evil", "a/./b", "..", ".", "a\nb",
    "a/" * 11 + "b", "x" * 201,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leaves_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "zip").mkdir()
    (tmp_path / "tar").mkdir()
    with pytest.raises(Invalid):
        opened(zip_of({name: b"x"}), tmp_path / "zip")
    with pytest.raises(Invalid):
        opened(tar_of((name, tarfile.REGTYPE, b"x")), tmp_path / "tar")


def test_a_name_with_a_null_is_refused_in_a_pax_header(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not allowed"):
        opened(tar_of(("a", tarfile.REGTYPE, b""), pax={"path": "a\0b"}), tmp_path)


KINDS = [
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CONTTYPE,
    b"S",
    b"K",
]


@pytest.mark.parametrize("kind", KINDS)
def test_links_devices_and_sparse_files_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="link or a device"):
        opened(tar_of(("evil", kind, b""), link="/etc/passwd"), tmp_path)


def test_a_chain_of_links_that_escaped_the_data_filter_is_refused_at_its_first_link(tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, kind, target in (
            ("a/" + "d" * 90, tarfile.DIRTYPE, ""),
            ("l", tarfile.SYMTYPE, "a/" + "d" * 90),
            ("l/up", tarfile.SYMTYPE, "../../.."),
            ("l/up/evil", tarfile.REGTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    with pytest.raises(Invalid, match="'l' is a link or a device"):
        opened(made.getvalue(), tmp_path)


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    def as_link(info: zipfile.ZipInfo) -> None:
        info.create_system, info.external_attr = 3, 0o120777 << 16

    with pytest.raises(Invalid, match="link or a device"):
        opened(zip_of({"evil": b"/etc/passwd"}, as_link), tmp_path)


@pytest.mark.parametrize("second", ["model.onnx", "MODEL.onnx"])
def test_one_name_is_there_once(second: str, tmp_path: Path) -> None:
    both = tar_of(("model.onnx", tarfile.REGTYPE, b"good"), (second, tarfile.REGTYPE, b"evil"))
    with pytest.raises(Invalid, match="twice"):
        opened(both, tmp_path)


def test_a_file_is_not_a_folder_too(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        opened(tar_of(("a", tarfile.REGTYPE, b"x"), ("a/b", tarfile.REGTYPE, b"x")), tmp_path)


def test_too_many_members(tmp_path: Path) -> None:
    many = {f"f{index}": b"" for index in range(21)}
    (tmp_path / "zip").mkdir()
    (tmp_path / "tar").mkdir()
    with pytest.raises(TooLarge, match="members"):
        opened(zip_of(many), tmp_path / "zip")
    with pytest.raises(TooLarge, match="members"):
        opened(tar_of(*((name, tarfile.REGTYPE, b"") for name in many)), tmp_path / "tar")


def test_a_table_of_contents_of_a_million_members_is_not_even_read(tmp_path: Path) -> None:
    entry = b"PK\1\2" + bytes(42)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 46 * 1_000_000, 0, 0)
    with pytest.raises(TooLarge, match="table of contents"):
        opened(b"PK\3\4" + entry * 1_000_000 + end, tmp_path)


def test_a_bomb_is_stopped_by_what_comes_out_not_by_what_it_says(tmp_path: Path) -> None:
    bomb = zip_of({"bomb": bytes(64 * 1024 * 1024)})
    honest = struct.pack("<L", 64 * 1024 * 1024)
    liar = bomb.replace(honest, struct.pack("<L", 10))
    for place, data in (("honest", bomb), ("liar", liar)):
        (tmp_path / place).mkdir()
        with pytest.raises(Refusal):
            opened(data, tmp_path / place)
        assert sum(path.stat().st_size for path in (tmp_path / place / "folder").rglob("*")) <= SMALL.member_bytes


def test_a_ratio_beyond_the_cap_is_a_bomb(tmp_path: Path) -> None:
    roomy = Caps(member_bytes=1 << 30, total_bytes=1 << 30, ratio=50)
    with pytest.raises(TooLarge, match="bomb"):
        opened(zip_of({"bomb": bytes(64 * 1024 * 1024)}), tmp_path, roomy)


def test_the_total_is_capped_over_members(tmp_path: Path) -> None:
    noise = bytes(range(256)) * 4 * 1024 * 3  # 3 MiB
    with pytest.raises(TooLarge):
        opened(zip_of({f"f{index}": noise for index in range(4)}), tmp_path)


def test_a_gzip_that_inflates_for_ever_is_stopped_even_outside_members(tmp_path: Path) -> None:
    info = tarfile.TarInfo("folder")
    info.type = tarfile.DIRTYPE
    header = bytearray(info.tobuf())
    header[124:136] = b"00777777777\0"
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    with pytest.raises(TooLarge):
        opened(gzip.compress(bytes(header) + bytes(64 * 1024 * 1024)), tmp_path)


def test_a_huge_extended_header_is_not_read_into_memory(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="extended header"):
        opened(tar_of(("a", tarfile.REGTYPE, b""), pax={"path": "a" * 70_000}), tmp_path)


def test_negative_and_binary_sizes_are_refused(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("a").tobuf())
    header[124:136] = b"\xff" * 12
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    with pytest.raises(Invalid, match="broken number"):
        opened(gzip.compress(bytes(header) + bytes(1024)), tmp_path)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_of({"a": b"secret"}))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    with pytest.raises(Invalid, match="encrypted"):
        opened(bytes(data), tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\5\6" + bytes(18), b"PK\3\4", b"\x1f\x8b", gzip.compress(b"no tar" * 200)])
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        opened(data, tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_broken_archive_is_refused_or_read_and_never_crashes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    good = data.draw(st.sampled_from([
        zip_of(GOOD),
        tar_of(*((name, tarfile.REGTYPE, content) for name, content in GOOD.items())),
    ]))  # fmt: skip
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(2, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(4, len(broken)))
    folder = tmp_path_factory.mktemp("fuzz")
    try:
        files = opened(bytes(broken[:cut]), folder)
    except Refusal:
        return
    assert files.get("deep/er/model.onnx") in (GOOD["deep/er/model.onnx"], None)


def test_tar_headers_that_are_broken_after_decompression_never_crash(tmp_path_factory: pytest.TempPathFactory) -> None:
    plain = bytearray(
        gzip.decompress(tar_of(("a" * 150, tarfile.REGTYPE, b"hello"), ("b", tarfile.REGTYPE, b"x" * 600)))
    )
    for place in range(0, len(plain), 23):
        mangled = bytearray(plain)
        mangled[place] ^= 0x5F
        try:
            opened(gzip.compress(bytes(mangled), 1), tmp_path_factory.mktemp("tar"))
        except Refusal:
            continue
        assert place >= 512, "the checksum of the first header holds no more"


def test_equal_files_make_equal_packages(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for member, data in GOOD.items() if name == "one" else reversed(GOOD.items()):
            (tmp_path / name / member).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / member).write_bytes(data)
        write(tmp_path / name, list(GOOD), tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    (tmp_path / "again").mkdir()
    assert opened((tmp_path / "one.zip").read_bytes(), tmp_path / "again") == GOOD
