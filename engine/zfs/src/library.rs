//! libzfs_core and libnvpair, loaded when they are first needed: one binary starts on hosts with and without ZFS. The one
//! place with `unsafe`. Owns the declarations and the memory of name-value lists; what is asked, and what follows from an
//! answer, is `worker`'s.
//!
//! The functions are those of `include/libzfs_core.h` and `include/sys/nvpair.h` of OpenZFS, whose soname is
//! `libzfs_core.so.3` from 2.1 through 2.4. Each call can hang for as long as the pool stands still.
#![allow(unsafe_code, reason = "libraries of C cannot be called without; every block says why it is sound")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, NulError, c_char, c_int, c_uint, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{null, null_mut};

use crate::error::Refusal;

const CORE: &str = "libzfs_core.so.3";
const NVPAIR: &str = "libnvpair.so.3";

/// `NV_UNIQUE_NAME`: a later pair takes the place of an earlier one of its name.
const UNIQUE_NAME: c_uint = 1;

/// `data_type_t`.
const TYPE_INT32: c_int = 5;
const TYPE_UINT64: c_int = 8;

/// `boolean_t`, an enumeration of C.
const FALSE: c_int = 0;
const TRUE: c_int = 1;

/// `enum lzc_send_flags`.
pub(crate) const SEND_LARGE_BLOCKS: c_uint = 1 << 1;
pub(crate) const SEND_COMPRESSED: c_uint = 1 << 2;
pub(crate) const SEND_RAW: c_uint = 1 << 3;

/// `nvlist_t` and `nvpair_t`, of which only pointers are known.
type RawList = *mut c_void;
type RawPair = *mut c_void;

macro_rules! functions {
    ($table:ident: $($name:ident = fn($($argument:ty),*) -> $result:ty;)+) => {
        /// Functions of a library that is never unloaded.
        #[derive(Debug, Clone, Copy)]
        struct $table {
            $($name: unsafe extern "C" fn($($argument),*) -> $result,)+
        }

        impl $table {
            fn load(library: &'static libloading::Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    // SAFETY: these are the types of the functions of these names in the headers named above.
                    $($name: *unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }?,)+
                })
            }
        }
    };
}

functions! { Nvpair:
    nvlist_alloc = fn(*mut RawList, c_uint, c_int) -> c_int;
    nvlist_free = fn(RawList) -> ();
    nvlist_add_boolean = fn(RawList, *const c_char) -> c_int;
    nvlist_add_boolean_value = fn(RawList, *const c_char, c_int) -> c_int;
    nvlist_add_uint64 = fn(RawList, *const c_char, u64) -> c_int;
    nvlist_add_string = fn(RawList, *const c_char, *const c_char) -> c_int;
    nvlist_add_nvlist = fn(RawList, *const c_char, RawList) -> c_int;
    nvlist_next_nvpair = fn(RawList, RawPair) -> RawPair;
    nvpair_name = fn(RawPair) -> *const c_char;
    nvpair_type = fn(RawPair) -> c_int;
    nvpair_value_int32 = fn(RawPair, *mut i32) -> c_int;
    nvpair_value_uint64 = fn(RawPair, *mut u64) -> c_int;
}

functions! { Core:
    libzfs_core_init = fn() -> c_int;
    lzc_snapshot = fn(RawList, RawList, *mut RawList) -> c_int;
    lzc_destroy_snaps = fn(RawList, c_int, *mut RawList) -> c_int;
    lzc_bookmark = fn(RawList, *mut RawList) -> c_int;
    lzc_destroy_bookmarks = fn(RawList, *mut RawList) -> c_int;
    lzc_hold = fn(RawList, c_int, *mut RawList) -> c_int;
    lzc_release = fn(RawList, *mut RawList) -> c_int;
    lzc_get_holds = fn(*const c_char, *mut RawList) -> c_int;
    lzc_send_resume = fn(*const c_char, *const c_char, c_int, c_uint, u64, u64) -> c_int;
    lzc_send_space_resume_redacted = fn(*const c_char, *const c_char, c_uint, u64, u64, u64, *const c_char, c_int, *mut u64) -> c_int;
    lzc_receive_with_cmdprops = fn(
        *const c_char, RawList, RawList, *mut u8, c_uint, *const c_char, c_int, c_int, c_int,
        c_int, *const c_void, c_int, *mut u64, *mut u64, *mut u64, *mut RawList
    ) -> c_int;
    lzc_sync = fn(*const c_char, RawList, *mut RawList) -> c_int;
}

/// A value of a name-value list that is handed over.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Flag,
    No,
    Number(u64),
    Text(String),
    List(Vec<(String, Value)>),
}

/// What a call ends with beside its own error: the object's name, and what is wrong with it.
pub(crate) type Faults = BTreeMap<String, Refusal>;

/// A call that has failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) refusal: Refusal,
    /// Of which objects it is known.
    pub(crate) faults: Faults,
}

impl From<NulError> for Failed {
    fn from(_: NulError) -> Self {
        Self::of(rustix::io::Errno::INVAL.raw_os_error())
    }
}

impl Failed {
    fn of(number: c_int) -> Self {
        Self { refusal: Refusal::new(number), faults: Faults::new() }
    }
}

/// Both libraries, ready.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Library {
    core: Core,
    nvpair: Nvpair,
}

/// What is received.
pub(crate) struct Received<'r> {
    pub(crate) snapshot: &'r str,
    pub(crate) properties: &'r [(String, Value)],
    pub(crate) origin: Option<&'r str>,
    pub(crate) is_raw: bool,
}

impl Library {
    /// Loads both and opens `/dev/zfs`; or why there is no ZFS.
    pub(crate) fn load() -> Result<Self, String> {
        let open = |name: &str| {
            // SAFETY: what these libraries do when they are loaded is what they do for every program that is linked to them.
            let library = unsafe { libloading::Library::new(name) }.map_err(|error| error.to_string())?;
            // They are used until the process ends, so that no function outlives its library.
            Ok::<_, String>(&*Box::leak(Box::new(library)))
        };
        let nvpair = Nvpair::load(open(NVPAIR)?).map_err(|error| error.to_string())?;
        let core = Core::load(open(CORE)?).map_err(|error| error.to_string())?;
        // SAFETY: it takes nothing, and may be called any number of times.
        match unsafe { (core.libzfs_core_init)() } {
            0 => Ok(Self { core, nvpair }),
            number => Err(format!("/dev/zfs: {}", std::io::Error::from_raw_os_error(number))),
        }
    }

    pub(crate) fn snapshot(self, snapshots: &[String]) -> Result<(), Failed> {
        let names = self.flags(snapshots)?;
        self.with_faults(|faults| {
            // SAFETY: both are lists or null, and it writes one list at most.
            unsafe { (self.core.lzc_snapshot)(names.raw, null_mut(), faults) }
        })
    }

    pub(crate) fn destroy_snapshots(self, snapshots: &[String]) -> Result<(), Failed> {
        let names = self.flags(snapshots)?;
        self.with_faults(|faults| {
            // SAFETY: as above. Not deferred: what is kept by something is told.
            unsafe { (self.core.lzc_destroy_snaps)(names.raw, FALSE, faults) }
        })
    }

    /// Bookmarks by their names, and what each is made of.
    pub(crate) fn bookmark(self, bookmark: &str, of: &str) -> Result<(), Failed> {
        let bookmarks = self.list(&[(bookmark.to_owned(), Value::Text(of.to_owned()))])?;
        // SAFETY: as above.
        self.with_faults(|faults| unsafe { (self.core.lzc_bookmark)(bookmarks.raw, faults) })
    }

    pub(crate) fn destroy_bookmarks(self, bookmarks: &[String]) -> Result<(), Failed> {
        let names = self.flags(bookmarks)?;
        // SAFETY: as above.
        self.with_faults(|faults| unsafe { (self.core.lzc_destroy_bookmarks)(names.raw, faults) })
    }

    /// One at a time: of several, one that is held already fails all (`lib/libzfs_core/libzfs_core.c`, `lzc_hold`). Of a
    /// snapshot that is not there it says so in the faults only, and returns 0.
    pub(crate) fn hold(self, snapshot: &str, tag: &str) -> Result<(), Failed> {
        let holds = self.list(&[(snapshot.to_owned(), Value::Text(tag.to_owned()))])?;
        // SAFETY: as above. No descriptor is given at whose closing it would be released.
        self.with_faults(|faults| unsafe { (self.core.lzc_hold)(holds.raw, -1, faults) })
    }

    pub(crate) fn release(self, snapshots: &[String], tag: &str) -> Result<(), Failed> {
        let tags = || Value::List(vec![(tag.to_owned(), Value::Flag)]);
        let holds: Vec<_> = snapshots.iter().map(|snapshot| (snapshot.clone(), tags())).collect();
        let holds = self.list(&holds)?;
        // SAFETY: as above.
        self.with_faults(|faults| unsafe { (self.core.lzc_release)(holds.raw, faults) })
    }

    /// The tags of all holds of a snapshot.
    pub(crate) fn holds(self, snapshot: &str) -> Result<Vec<String>, Failed> {
        let snapshot = CString::new(snapshot)?;
        let mut found = List { raw: null_mut(), nvpair: self.nvpair };
        // SAFETY: the name ends with a NUL and outlives the call, which writes one list at most.
        match unsafe { (self.core.lzc_get_holds)(snapshot.as_ptr(), &raw mut found.raw) } {
            0 => Ok(found.pairs().map(|pair| pair.name()).collect()),
            number => Err(Failed::of(number)),
        }
    }

    pub(crate) fn send(
        self,
        snapshot: &str,
        base: Option<&str>,
        flags: c_uint,
        resume: (u64, u64),
        to: BorrowedFd<'_>,
    ) -> Result<(), Failed> {
        let (snapshot, base) = (CString::new(snapshot)?, base.map(CString::new).transpose()?);
        // SAFETY: names end with a NUL or are null, and outlive the call, as the descriptor does.
        let number = unsafe {
            (self.core.lzc_send_resume)(
                snapshot.as_ptr(),
                pointer(base.as_deref()),
                to.as_raw_fd(),
                flags,
                resume.0,
                resume.1,
            )
        };
        done(number)
    }

    /// How many bytes a stream will have, about.
    pub(crate) fn send_size(
        self,
        snapshot: &str,
        base: Option<&str>,
        flags: c_uint,
        resume: (u64, u64),
    ) -> Result<u64, Failed> {
        let (snapshot, base) = (CString::new(snapshot)?, base.map(CString::new).transpose()?);
        let mut size_bytes = 0;
        // SAFETY: as for `send`; it writes one number. No descriptor is given, as `zfs send -n` gives none of use.
        let number = unsafe {
            (self.core.lzc_send_space_resume_redacted)(
                snapshot.as_ptr(),
                pointer(base.as_deref()),
                flags,
                resume.0,
                resume.1,
                0,
                null(),
                -1,
                &raw mut size_bytes,
            )
        };
        done(number).map(|()| size_bytes)
    }

    /// Never forced, and always so that it can be resumed.
    pub(crate) fn receive(self, received: &Received<'_>, from: BorrowedFd<'_>) -> Result<(), Failed> {
        let snapshot = CString::new(received.snapshot)?;
        let origin = received.origin.map(CString::new).transpose()?;
        let properties = self.list(received.properties)?;
        let is_raw = if received.is_raw { TRUE } else { FALSE };
        let (mut read_bytes, mut flags, mut unused) = (0, 0, 0);
        self.with_faults(|faults| {
            // SAFETY: names and lists as above; the descriptor outlives the call; a null record has it read the first one
            // from there; it writes three numbers and one list at most.
            unsafe {
                (self.core.lzc_receive_with_cmdprops)(
                    snapshot.as_ptr(),
                    null_mut(),
                    properties.raw,
                    null_mut(),
                    0,
                    pointer(origin.as_deref()),
                    FALSE,
                    TRUE,
                    is_raw,
                    from.as_raw_fd(),
                    null(),
                    -1,
                    &raw mut read_bytes,
                    &raw mut flags,
                    &raw mut unused,
                    faults,
                )
            }
        })
    }

    pub(crate) fn sync(self, pool: &str) -> Result<(), Failed> {
        let pool = CString::new(pool)?;
        // Not forced: where nothing was written there is nothing to wait for.
        let arguments = self.list(&[("force".to_owned(), Value::No)])?;
        self.with_faults(|faults| {
            // SAFETY: as above.
            unsafe { (self.core.lzc_sync)(pool.as_ptr(), arguments.raw, faults) }
        })
    }

    /// A call that writes a list of what is wrong with which object: one of these is a failure also where it returns 0.
    fn with_faults(self, call: impl FnOnce(*mut RawList) -> c_int) -> Result<(), Failed> {
        let mut list = List { raw: null_mut(), nvpair: self.nvpair };
        let number = call(&raw mut list.raw);
        let named = list.pairs().map(|pair| (pair.name(), pair.number()));
        // Where there are too many, their count has a place among them (`N_MORE_ERRORS`).
        let faults: Faults = named
            .filter(|(name, _)| name != "N_MORE_ERRORS")
            .filter_map(|(name, number)| Some((name, Refusal::new(number?))))
            .collect();
        match (number, faults.values().next()) {
            (0, None) => Ok(()),
            (0, Some(first)) => Err(Failed { refusal: *first, faults }),
            (number, _) => Err(Failed { refusal: Refusal::new(number), faults }),
        }
    }

    /// A list of names without values.
    fn flags(self, names: &[String]) -> Result<List, Failed> {
        let pairs: Vec<_> = names.iter().map(|name| (name.clone(), Value::Flag)).collect();
        self.list(&pairs)
    }

    fn list(self, pairs: &[(String, Value)]) -> Result<List, Failed> {
        let mut list = List { raw: null_mut(), nvpair: self.nvpair };
        // SAFETY: it writes one list, which `List` frees.
        done(unsafe { (self.nvpair.nvlist_alloc)(&raw mut list.raw, UNIQUE_NAME, 0) })?;
        for (name, value) in pairs {
            let name = CString::new(name.as_str())?;
            // SAFETY: the list is there, and texts end with a NUL; of all it makes copies.
            done(match value {
                Value::Flag => unsafe { (self.nvpair.nvlist_add_boolean)(list.raw, name.as_ptr()) },
                Value::No => unsafe {
                    (self.nvpair.nvlist_add_boolean_value)(list.raw, name.as_ptr(), FALSE)
                },
                Value::Number(number) => unsafe {
                    (self.nvpair.nvlist_add_uint64)(list.raw, name.as_ptr(), *number)
                },
                Value::Text(text) => {
                    let text = CString::new(text.as_str())?;
                    unsafe { (self.nvpair.nvlist_add_string)(list.raw, name.as_ptr(), text.as_ptr()) }
                }
                Value::List(pairs) => {
                    let inner = self.list(pairs)?;
                    unsafe { (self.nvpair.nvlist_add_nvlist)(list.raw, name.as_ptr(), inner.raw) }
                }
            })?;
        }
        Ok(list)
    }
}

fn done(number: c_int) -> Result<(), Failed> {
    if number == 0 { Ok(()) } else { Err(Failed::of(number)) }
}

fn pointer(text: Option<&CStr>) -> *const c_char {
    text.map_or(null(), CStr::as_ptr)
}

/// A name-value list, or none.
struct List {
    raw: RawList,
    nvpair: Nvpair,
}

impl List {
    fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        let mut last: RawPair = null_mut();
        std::iter::from_fn(move || {
            if self.raw.is_null() {
                return None;
            }
            // SAFETY: the list is there and is not changed meanwhile; `last` is null or a pair of it.
            last = unsafe { (self.nvpair.nvlist_next_nvpair)(self.raw, last) };
            (!last.is_null()).then_some(Pair { raw: last, list: self })
        })
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: nobody else has it; null is nothing to free.
        unsafe { (self.nvpair.nvlist_free)(self.raw) };
    }
}

/// A pair of a list that is there.
struct Pair<'l> {
    raw: RawPair,
    list: &'l List,
}

impl Pair<'_> {
    fn name(&self) -> String {
        // SAFETY: the name of a pair ends with a NUL, and lives as long as its list.
        unsafe { CStr::from_ptr((self.list.nvpair.nvpair_name)(self.raw)) }.to_string_lossy().into_owned()
    }

    /// The number, where it is one.
    fn number(&self) -> Option<i32> {
        let nvpair = self.list.nvpair;
        // SAFETY: the pair is there; each value is read as what it is, into one of its size.
        unsafe {
            match (nvpair.nvpair_type)(self.raw) {
                TYPE_INT32 => {
                    let mut number = 0;
                    ((nvpair.nvpair_value_int32)(self.raw, &raw mut number) == 0).then_some(number)
                }
                TYPE_UINT64 => {
                    let mut number = 0;
                    let read = (nvpair.nvpair_value_uint64)(self.raw, &raw mut number) == 0;
                    read.then(|| i32::try_from(number).ok()).flatten()
                }
                _ => None,
            }
        }
    }
}
