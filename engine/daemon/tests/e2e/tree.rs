//! Trees to protect: one with everything that a Linux file system can hold, edits of it, and plain ones of a
//! given size.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backstay_testkit::random::Random;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::outcome::run;

/// More names of one file than many formats can count.
const NAMES: usize = 1100;

const MIB: usize = 1 << 20;

/// Files of the directory that is renamed.
pub(crate) const MOVED_FILES: usize = 300;

/// Bytes of each of them.
pub(crate) const MOVED_FILE_BYTES: usize = 20_000;

/// Makes one of everything in `root`, which is empty.
pub(crate) fn make_everything(root: &Path) {
    let mut random = Random::new(1);
    names(root);
    contents(root, &mut random);
    links(root);
    special_files(root);
    attributes(root);
    access_lists(root);
    modes_and_owners(root);
    moved_directory(root, &mut random);
    // Last, because everything before moves the times of directories.
    times(root);
}

fn names(root: &Path) {
    let folder = root.join("names");
    fs::create_dir(&folder).unwrap();
    let long = [b'n'; 255];
    let names: [&[u8]; 11] = [
        b"plain",
        b"with space",
        b"line\nbreak",
        b"tab\tand\x01control",
        b"not utf-8 \xff\xfe\x80",
        "\u{fc}ml\u{e4}ut \u{1f980}".as_bytes(),
        b"-rf",
        b"quote'\"back\\slash",
        b"*?[glob]",
        b"..almost",
        &long,
    ];
    for name in names {
        fs::write(folder.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let long_folder = folder.join("d".repeat(255));
    fs::create_dir(&long_folder).unwrap();
    fs::write(long_folder.join(OsStr::from_bytes(b"\xc3\x28")), "in it").unwrap();
    // Sorts between a directory and what is in it, for who compares paths as text.
    fs::create_dir(folder.join("order")).unwrap();
    for name in ["order.txt", "order/a", "order-1", "order0"] {
        fs::write(folder.join(name), name).unwrap();
    }
    let mut deep = folder.join("deep");
    (0..60).for_each(|level| deep.push(format!("level {level}")));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "bottom").unwrap();
}

fn contents(root: &Path, random: &mut Random) {
    let folder = root.join("contents");
    fs::create_dir_all(folder.join("empty directory")).unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    for size in [1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000, 5 * MIB + 1] {
        fs::write(folder.join(format!("random {size}")), random.bytes(size)).unwrap();
    }
    fs::write(folder.join("text"), "the same line again\n".repeat(50_000)).unwrap();
    fs::write(folder.join("written zeros"), vec![0; 3 * MIB]).unwrap();
    fs::write(folder.join("big"), random.bytes(100 * MIB)).unwrap();
    sparse(&folder.join("leading hole"), 2 * MIB as u64, &[(MIB as u64, b"after it")]);
    sparse(&folder.join("middle hole"), 3 * MIB as u64, &[(0, b"before"), (3 * MIB as u64 - 5, b"after")]);
    sparse(&folder.join("trailing hole"), 5 * MIB as u64, &[(0, b"before it")]);
    sparse(&folder.join("all hole"), 7_654_321, &[]);
    sparse(&folder.join("small hole"), 50_000, &[(20_000, b"inside")]);
    sparse(&folder.join("large sparse"), 600 * MIB as u64, &[(0, b"a"), (300 * MIB as u64, b"b")]);
    sparse(
        &folder.join("1 TiB.immense"),
        1 << 40,
        &[(5, b"a"), (1 << 39, b"middle"), ((1 << 40) - 9, b"the end..")],
    );
}

fn sparse(path: &Path, size: u64, data: &[(u64, &[u8])]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    data.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
    // Some file systems know where the holes are only then.
    file.sync_all().unwrap();
}

fn links(root: &Path) {
    let (one, other) = (root.join("links"), root.join("links elsewhere"));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(one.join("first"), "one file, three names").unwrap();
    fs::hard_link(one.join("first"), one.join("second")).unwrap();
    fs::hard_link(one.join("first"), other.join("third")).unwrap();
    fs::write(other.join("large"), Random::new(2).bytes(MIB)).unwrap();
    fs::hard_link(other.join("large"), one.join("large elsewhere")).unwrap();
    let many = root.join("many names");
    fs::create_dir(&many).unwrap();
    fs::write(many.join("0000"), "many names").unwrap();
    (1..NAMES).for_each(|n| fs::hard_link(many.join("0000"), many.join(format!("{n:04}"))).unwrap());
    let far = "far/".repeat(900);
    let targets: [(&str, &[u8]); 7] = [
        ("relative", b"first"),
        ("absolute", b"/etc/hostname"),
        ("dangling", b"nowhere/at all"),
        ("itself", b"itself"),
        ("upwards", b"../../.."),
        ("not utf-8", b"\xff\xfe"),
        ("long", far.as_bytes()),
    ];
    for (name, target) in targets {
        symlink(OsStr::from_bytes(target), one.join(name)).unwrap();
    }
    symlink("../links elsewhere", one.join("to a directory")).unwrap();
    lchown(one.join("dangling"), Some(1234), Some(5678)).unwrap();
}

fn special_files(root: &Path) {
    let folder = root.join("special");
    fs::create_dir(&folder).unwrap();
    let make = |name: &str, kind: FileType, device: (u32, u32)| {
        let mode = Mode::from_raw_mode(0o640);
        let made =
            rustix::fs::mknodat(CWD, folder.join(name), kind, mode, rustix::fs::makedev(device.0, device.1));
        permitted(name, made);
    };
    make("fifo", FileType::Fifo, (0, 0));
    make("socket", FileType::Socket, (0, 0));
    make("null", FileType::CharacterDevice, (1, 3));
    make("wide numbers", FileType::CharacterDevice, (511, 1_048_575));
    make("loop", FileType::BlockDevice, (7, 200));
    symlink("fifo", folder.join("symlink")).unwrap();
    for name in ["fifo", "socket", "null", "symlink"] {
        permitted(name, rustix::fs::link(folder.join(name), folder.join(format!("{name} too"))));
    }
}

fn attributes(root: &Path) {
    let folder = root.join("attributes");
    fs::create_dir_all(folder.join("directory")).unwrap();
    for name in ["file", "capability", "linked", "value of 1500"] {
        fs::write(folder.join(name), name).unwrap();
    }
    fs::hard_link(folder.join("linked"), folder.join("linked too")).unwrap();
    symlink("file", folder.join("symlink")).unwrap();
    set_attribute(&folder.join("file"), "user.text", b"a value");
    set_attribute(&folder.join("file"), "user.binary", &[0, 255, 10, 0]);
    set_attribute(&folder.join("file"), "user.empty", b"");
    set_attribute(&folder.join("directory"), "user.of.directory", b"yes");
    set_attribute(&folder.join("linked"), "user.of.all.names", b"yes");
    set_attribute(&folder.join("value of 1500"), "user.long", &[b'x'; 1500]);
    set_attribute(&folder.join("file"), "trusted.secret", b"root only");
    set_attribute(&folder.join("symlink"), "trusted.of.link", b"not of what it leads to");
    // vfs_cap_data, revision 2: cap_net_raw, effective.
    let mut capability = [0; 20];
    capability[..4].copy_from_slice(&0x0200_0001u32.to_le_bytes());
    capability[4..8].copy_from_slice(&(1u32 << 13).to_le_bytes());
    set_attribute(&folder.join("capability"), "security.capability", &capability);
}

/// Values that do not fit into the block that ext4 has for them; for a root on another file system.
pub(crate) fn make_large_attributes(root: &Path) {
    let mut random = Random::new(3);
    for (name, size) in [("4096", 4096), ("4097", 4097), ("8000", 8000), ("65536", 65_536)] {
        fs::write(root.join(name), name).unwrap();
        set_attribute(&root.join(name), "trusted.large", &random.bytes(size));
        set_attribute(&root.join(name), "trusted.small", b"beside it");
    }
    set_attribute(&root.join("8000"), "trusted.large.too", &random.bytes(8000));
    fs::create_dir(root.join("directory")).unwrap();
    set_attribute(&root.join("directory"), "trusted.large", &random.bytes(8000));
    symlink("8000", root.join("symlink")).unwrap();
    set_attribute(&root.join("symlink"), "trusted.large", &random.bytes(8000));
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    permitted(name, rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()));
}

fn access_lists(root: &Path) {
    let folder = root.join("access");
    fs::create_dir_all(folder.join("inherited")).unwrap();
    fs::write(folder.join("file"), "file").unwrap();
    let set = |entries: &str, name: &str| {
        let mut setfacl = Command::new("setfacl");
        setfacl.args(["-m", entries]).arg(folder.join(name));
        run(setfacl).good();
    };
    set("u:1234:rwx,g:5678:r-x,m::rx", "file");
    set("u:4321:r-x,d:u:1234:rwx,d:g::---,d:o::---", "inherited");
    // Made with what the directory hands down.
    fs::write(folder.join("inherited/born with it"), "file").unwrap();
    fs::create_dir(folder.join("inherited/below")).unwrap();
}

fn modes_and_owners(root: &Path) {
    let folder = root.join("modes");
    fs::create_dir(&folder).unwrap();
    for mode in [0o000, 0o400, 0o111, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777] {
        let file = folder.join(format!("file {mode:04o}"));
        fs::write(&file, "file").unwrap();
        lchown(&file, Some(1000 + mode), Some(4_000_000_000)).unwrap();
        // After the owner: changing that takes setuid away.
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
    for mode in [0o500, 0o000, 0o2775, 0o1777] {
        let inside = folder.join(format!("directory {mode:04o}"));
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("in it"), "file").unwrap();
        fs::create_dir(inside.join("below")).unwrap();
        lchown(&inside, Some(3_000_000_000), Some(7)).unwrap();
        fs::set_permissions(&inside, Permissions::from_mode(mode)).unwrap();
    }
    symlink("file 0777", folder.join("symlink")).unwrap();
    lchown(folder.join("symlink"), Some(99), Some(98)).unwrap();
}

fn moved_directory(root: &Path, random: &mut Random) {
    for n in 0..MOVED_FILES {
        let folder = root.join(format!("moved/{}", n % 7));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("file {n}")), random.bytes(MOVED_FILE_BYTES)).unwrap();
    }
}

fn times(root: &Path) {
    let folder = root.join("times");
    fs::create_dir_all(folder.join("directory")).unwrap();
    symlink("nowhere", folder.join("symlink")).unwrap();
    // Year 2200, 1901, just before and at the epoch.
    let seconds = [
        ("2200", 7_258_118_400),
        ("1901", -2_147_483_647),
        ("before", -1),
        ("epoch", 0),
        ("now", 1_790_000_000),
    ];
    for (name, seconds) in seconds {
        fs::write(folder.join(name), name).unwrap();
        set_time(&folder.join(name), seconds, 123_456_789);
    }
    fs::write(folder.join("last nanosecond"), "").unwrap();
    set_time(&folder.join("last nanosecond"), 1_600_000_000, 999_999_999);
    set_time(&folder.join("symlink"), 1_000_000_000, 1);
    set_time(&folder.join("directory"), -86_400, 500_000_000);
    set_time(&folder, 1_234_567_890, 987_654_321);
    set_time(root, 1_400_000_000, 42);
}

/// Sets the time of the last change of contents, of a symbolic link itself.
pub(crate) fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Notes what this user or file system may not have.
fn permitted(what: &str, result: rustix::io::Result<()>) {
    use rustix::io::Errno;
    match result {
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSPC | Errno::TOOBIG) => {
            eprintln!("LEFT OUT: {what} cannot be made here");
        }
        result => result.unwrap_or_else(|error| panic!("{what}: {error}")),
    }
}

/// Changes the tree of [`make_everything`] in every way.
pub(crate) fn edit_everything(root: &Path) {
    let at = |path: &str| root.join(path);
    // Contents, with and without another size.
    File::options()
        .write(true)
        .open(at("contents/big"))
        .unwrap()
        .write_all_at(b"changed", 50 * MIB as u64)
        .unwrap();
    append(&at("contents/text"), b"one more line\n");
    append(&at("contents/empty"), b"not any more");
    File::options().write(true).open(at("contents/random 300000")).unwrap().set_len(1000).unwrap();
    File::options()
        .write(true)
        .open(at("contents/middle hole"))
        .unwrap()
        .write_all_at(b"filled", MIB as u64)
        .unwrap();
    File::options().write(true).open(at("contents/trailing hole")).unwrap().set_len(100).unwrap();
    change_unnoticed(&at("contents/random 4097"));
    // Only what is around them.
    fs::set_permissions(at("contents/random 5242881"), Permissions::from_mode(0o600)).unwrap();
    lchown(at("contents/random 65536"), Some(77), Some(88)).unwrap();
    set_time(&at("contents/random 65537"), 1_111_111_111, 1);
    set_attribute(&at("contents/random 1"), "user.new", b"new");
    set_attribute(&at("attributes/file"), "user.text", b"another value");
    rustix::fs::lremovexattr(at("attributes/file"), "user.binary").unwrap();
    // Names.
    fs::rename(at("contents/random 4096"), at("contents/another name")).unwrap();
    fs::rename(at("moved"), at("a moved directory")).unwrap();
    fs::rename(at("names/with space"), at("names/plain")).unwrap();
    // One kind in the place of another.
    fs::remove_file(at("contents/random 4095")).unwrap();
    fs::create_dir(at("contents/random 4095")).unwrap();
    fs::write(at("contents/random 4095/in it"), "was a file before").unwrap();
    fs::remove_dir_all(at("names/order")).unwrap();
    fs::write(at("names/order"), "was a directory before").unwrap();
    fs::remove_dir_all(at("names/deep/level 0/level 1")).unwrap();
    symlink("/", at("names/deep/level 0/level 1")).unwrap();
    fs::remove_file(at("links/relative")).unwrap();
    fs::write(at("links/relative"), "was a symbolic link before").unwrap();
    fs::remove_file(at("links/absolute")).unwrap();
    symlink("somewhere else", at("links/absolute")).unwrap();
    fs::remove_file(at("special/fifo")).unwrap();
    fs::create_dir(at("special/fifo")).unwrap();
    // Files with several names.
    fs::remove_file(at("links/first")).unwrap();
    fs::hard_link(at("links/second"), at("links/fourth")).unwrap();
    append(&at("links elsewhere/large"), b"seen under both names");
    fs::remove_file(at("attributes/linked too")).unwrap();
    fs::hard_link(at("contents/random 65535"), at("links/was single")).unwrap();
    (0..50).for_each(|n| fs::remove_file(at(&format!("many names/{n:04}"))).unwrap());
    // All gone, and all new.
    fs::remove_dir_all(at("access/inherited")).unwrap();
    fs::create_dir_all(at("new/directory")).unwrap();
    fs::write(at("new/directory/file"), "new").unwrap();
    set_time(root, 1_500_000_000, 43);
}

pub(crate) fn append(path: &Path, bytes: &[u8]) {
    io::Write::write_all(&mut File::options().append(true).open(path).unwrap(), bytes).unwrap();
}

/// Other contents of the same size and the same time of change: only ctime tells.
fn change_unnoticed(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"other contents", 0).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
}

/// Plain files in plain directories: `files` of them with about `file_bytes` that do not compress.
pub(crate) fn make_plain(root: &Path, files: usize, file_bytes: usize, random: &mut Random) {
    for n in 0..files {
        let folder = root.join(format!("{:02}", n % 13));
        fs::create_dir_all(&folder).unwrap();
        let size = file_bytes / 2 + random.below(file_bytes);
        fs::write(folder.join(format!("file {n}")), random.bytes(size)).unwrap();
    }
}

/// Some random changes of a tree of [`make_plain`]; `files` is how many it was made with.
pub(crate) fn change_plain(root: &Path, files: usize, random: &mut Random) {
    for _ in 0..1 + random.below(8) {
        let n = random.below(files);
        let path = root.join(format!("{:02}/file {n}", n % 13));
        let size = random.below(200_000);
        match random.below(5) {
            0 => {
                // Gone already is gone.
                let _ = fs::remove_file(&path);
            }
            1 => {
                let elsewhere: PathBuf = root.join(format!("{:02}/moved {n}", random.below(13)));
                let _ = fs::rename(&path, elsewhere);
            }
            2 => {
                let _ = fs::hard_link(&path, root.join(format!("{:02}/link {n}", random.below(13))));
            }
            _ => fs::write(&path, random.bytes(size)).unwrap(),
        }
    }
    let seconds = 1_000_000_000 + random.below(500_000_000) as u64;
    let root = File::open(root).unwrap();
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs(seconds);
    root.set_times(FileTimes::new().set_modified(time)).unwrap();
}
