//! The state of a cursor: the rows of one point in local files, by path and by inode, so that a capture
//! reads from the vault nothing that it knows already. A cache and nothing more: what is torn, foreign or
//! missing is rebuilt from the vault.

mod inodes;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use backstay_core::digest::StateDigest;
use backstay_core::id::PointId;
use backstay_core::units::Timestamp;
use minicbor::{Decode, Encode};

use self::inodes::{InodeSorter, InodeTable};
use self::table::{BlockOffset, TableFault, TableReader, TableWriter, WhichTable};
use crate::heads::{FoundRow, KeyValue, SingleRows};
use crate::keys::{PathKey, is_further};
use crate::row::HeadRow;
use crate::stat::Identity;

const VERSION: u32 = 0;
const HEADER: &str = "header";
const PATHS: &str = "paths";
const LINKS: &str = "links";
const INODES: &str = "inodes";

/// Greatest header, bytes.
const HEADER_BYTES_MAX: u64 = 64 << 10;

/// Rows that one block may hold; a block is bounded in bytes, so this is never reached.
const ROWS_SEARCHED_MAX: usize = 1 << 20;

/// Why a local state cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refused.
    #[error("cannot use the local state in {file}: {cause}; see that the disk is writable and has room")]
    Io {
        /// The file.
        file: String,
        /// Why.
        cause: io::Error,
    },
    /// It was not written to its end, or is of another version.
    #[error("the local state in {file} is torn; it is rebuilt from the vault")]
    Torn {
        /// The file.
        file: String,
    },
}

impl StateError {
    fn io(file: &Path, cause: io::Error) -> Self {
        Self::Io { file: file.display().to_string(), cause }
    }

    fn table(file: &Path, fault: TableFault) -> Self {
        match fault {
            TableFault::Io(cause) if cause.kind() != io::ErrorKind::UnexpectedEof => Self::io(file, cause),
            _ => Self::Torn { file: file.display().to_string() },
        }
    }

    /// Whether the state is to be rebuilt; otherwise the disk has a problem.
    pub fn is_torn(&self) -> bool {
        match self {
            Self::Torn { .. } => true,
            Self::Io { cause, .. } => cause.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// What a state says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StateHeader {
    #[n(0)]
    version: u32,
    /// The point whose rows these are.
    #[n(1)]
    pub point: PointId,
    /// Start of the last scan that found them so.
    #[n(2)]
    pub scan_start: Timestamp,
    /// The state digest.
    #[n(3)]
    pub digest: StateDigest,
    /// Restorable entries.
    #[n(4)]
    pub entries: u64,
    /// Bytes that a restore writes.
    #[n(5)]
    pub bytes: u64,
    #[n(7)]
    paths_length: u64,
    #[n(8)]
    links_length: u64,
    #[n(9)]
    inodes: u64,
}

/// Facts that only the end of a capture knows.
#[derive(Debug, Clone)]
pub struct StateFacts {
    /// The point.
    pub point: PointId,
    /// Start of the scan.
    pub scan_start: Timestamp,
    /// The state digest.
    pub digest: StateDigest,
    /// Restorable entries.
    pub entries: u64,
    /// Bytes that a restore writes.
    pub bytes: u64,
}

/// A state that is whole as far as its header tells.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    header: StateHeader,
}

impl State {
    /// Opens the state in `folder`; it must be that of `point`.
    pub fn open(folder: &Path, point: PointId) -> Result<Self, StateError> {
        let path = folder.join(HEADER);
        let torn = || StateError::Torn { file: path.display().to_string() };
        let length = fs::metadata(&path).map_err(|e| StateError::io(&path, e))?.len();
        if length > HEADER_BYTES_MAX {
            return Err(torn());
        }
        let bytes = fs::read(&path).map_err(|e| StateError::io(&path, e))?;
        let (sum, body) = bytes.split_at_checked(32).ok_or_else(torn)?;
        if blake3::hash(body).as_bytes() != sum {
            return Err(torn());
        }
        let header: StateHeader = minicbor::decode(body).map_err(|_| torn())?;
        if header.version != VERSION || header.point != point {
            return Err(torn());
        }
        Ok(Self { folder: folder.to_path_buf(), header })
    }

    /// What it says about itself.
    pub fn header(&self) -> &StateHeader {
        &self.header
    }

    /// All rows of paths, in order.
    pub fn paths(&self) -> Result<StateRows, StateError> {
        self.rows(PATHS, self.header.paths_length)
    }

    /// All rows of files with several names, in order.
    pub fn links(&self) -> Result<StateRows, StateError> {
        self.rows(LINKS, self.header.links_length)
    }

    /// Finds rows by inode.
    pub fn by_inode(&self) -> Result<RowsByInode, StateError> {
        let path = self.folder.join(INODES);
        let table = InodeTable::open(&path, self.header.inodes).map_err(|e| StateError::io(&path, e))?;
        let table = table.ok_or_else(|| StateError::Torn { file: path.display().to_string() })?;
        let open = |name: &str, length: u64| {
            let path = self.folder.join(name);
            TableReader::open(&path, length).map(|rows| Searched { rows, length, path })
        };
        Ok(RowsByInode {
            table,
            paths: open(PATHS, self.header.paths_length)?,
            links: open(LINKS, self.header.links_length)?,
        })
    }

    /// Notes that a later scan found everything as it was, at the point `scan_start`.
    pub fn confirm(&mut self, scan_start: Timestamp) -> Result<(), StateError> {
        self.header.scan_start = scan_start;
        write_header(&self.folder, &self.header)
    }

    /// Which object the root was, if the state has it.
    pub fn root(&self) -> Result<Option<Identity>, StateError> {
        let mut rows = self.paths()?;
        if !rows.advance()? {
            return Ok(None);
        }
        let (key, value) = rows.row();
        // What is no row here is told by whoever reads all of them.
        let head = HeadRow::decode(value).ok().filter(|_| key == PathKey::root().as_bytes());
        Ok(head.and_then(|head| head.facts.seen).map(|seen| seen.identity))
    }

    fn rows(&self, name: &str, length: u64) -> Result<StateRows, StateError> {
        let path = self.folder.join(name);
        Ok(StateRows { rows: TableReader::open(&path, length)?, path })
    }
}

/// Rows of a state, one after the other.
#[derive(Debug)]
pub struct StateRows {
    rows: TableReader,
    path: PathBuf,
}

impl StateRows {
    /// Moves to the next row; false at the end.
    pub fn advance(&mut self) -> Result<bool, StateError> {
        self.rows.advance().map_err(|fault| StateError::table(&self.path, fault))
    }

    /// Key and value of the row.
    pub fn row(&self) -> (&[u8], &[u8]) {
        self.rows.entry()
    }
}

impl SingleRows for StateRows {
    type Error = StateError;

    fn read(&mut self) -> Result<Option<KeyValue>, StateError> {
        if !self.advance()? {
            return Ok(None);
        }
        let (key, value) = self.row();
        Ok(Some((key.to_vec(), value.to_vec())))
    }
}

/// Rows of a state by inode.
#[derive(Debug)]
pub struct RowsByInode {
    table: InodeTable,
    paths: Searched,
    links: Searched,
}

impl RowsByInode {
    /// The row of an inode: the first that `is_it` accepts by its value, in the block that the inode points to.
    pub fn find(
        &mut self,
        identity: Identity,
        is_it: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<FoundRow>, StateError> {
        let found = self.table.find(identity).map_err(|e| StateError::io(&self.paths.path, e))?;
        match found.map(BlockOffset::table) {
            None => Ok(None),
            Some((WhichTable::Paths, block)) => self.paths.find(block, is_it),
            Some((WhichTable::Links, block)) => self.links.find(block, is_it),
        }
    }
}

#[derive(Debug)]
struct Searched {
    rows: TableReader,
    length: u64,
    path: PathBuf,
}

impl Searched {
    fn find(
        &mut self,
        block: BlockOffset,
        is_it: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<FoundRow>, StateError> {
        let torn = |fault| StateError::table(&self.path, fault);
        self.rows.seek(block, self.length).map_err(torn)?;
        let mut found: Option<FoundRow> = None;
        for _ in 0..ROWS_SEARCHED_MAX {
            if !self.rows.advance().map_err(torn)? {
                break;
            }
            let (key, value) = self.rows.entry();
            match &mut found {
                Some(row) if is_further(key) => row.further.push((key.to_vec(), value.to_vec())),
                Some(_) => break,
                None if !is_further(key) && is_it(value) => {
                    found = Some(FoundRow { key: key.to_vec(), value: value.to_vec(), further: Vec::new() });
                }
                None => {}
            }
        }
        Ok(found)
    }
}

/// Writes a new state; it counts only after [`StateWriter::finish`].
#[derive(Debug)]
pub struct StateWriter {
    folder: PathBuf,
    paths: TableWriter,
    links: TableWriter,
    inodes: InodeSorter,
}

impl StateWriter {
    /// Begins in an empty folder of its own.
    pub fn create(folder: &Path) -> Result<Self, StateError> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StateError::io(folder, error));
            }
            _ => {}
        }
        fs::create_dir_all(folder).map_err(|e| StateError::io(folder, e))?;
        Ok(Self {
            paths: TableWriter::create(&folder.join(PATHS))?,
            links: TableWriter::create(&folder.join(LINKS))?,
            inodes: InodeSorter::new(&folder.join(INODES)),
            folder: folder.to_path_buf(),
        })
    }

    /// Appends a row of a path, head or further, in order of keys. `identity` is that of a file whose contents
    /// may be wanted by inode.
    pub fn push_path(
        &mut self,
        key: &[u8],
        value: &[u8],
        identity: Option<Identity>,
    ) -> Result<(), StateError> {
        let block = self.paths.push(key, value).map_err(|error| StateError::io(&self.folder, error))?;
        self.note_inode(identity, block)
    }

    /// Appends a row of a file with several names, head or further, in order of keys.
    pub fn push_link(
        &mut self,
        key: &[u8],
        value: &[u8],
        identity: Option<Identity>,
    ) -> Result<(), StateError> {
        let block = self.links.push(key, value).map_err(|error| StateError::io(&self.folder, error))?;
        self.note_inode(identity, block.in_links())
    }

    fn note_inode(&mut self, identity: Option<Identity>, block: BlockOffset) -> Result<(), StateError> {
        let Some(identity) = identity else { return Ok(()) };
        self.inodes.push(identity, block).map_err(|error| StateError::io(&self.folder, error))
    }

    /// Closes the state and puts it into its place, over one that is there.
    pub fn finish(self, facts: StateFacts, place: &Path) -> Result<State, StateError> {
        let io = |error| StateError::io(&self.folder, error);
        let header = StateHeader {
            version: VERSION,
            point: facts.point,
            scan_start: facts.scan_start,
            digest: facts.digest,
            entries: facts.entries,
            bytes: facts.bytes,
            paths_length: self.paths.finish().map_err(io)?,
            links_length: self.links.finish().map_err(io)?,
            inodes: self.inodes.finish().map_err(io)?,
        };
        write_header(&self.folder, &header)?;
        match fs::remove_dir_all(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StateError::io(place, error));
            }
            _ => {}
        }
        fs::rename(&self.folder, place).map_err(|e| StateError::io(place, e))?;
        Ok(State { folder: place.to_path_buf(), header })
    }
}

fn write_header(folder: &Path, header: &StateHeader) -> Result<(), StateError> {
    let path = folder.join(HEADER);
    let body = minicbor::to_vec(header).expect("writing to memory cannot fail");
    let bytes = [blake3::hash(&body).as_bytes().as_slice(), &body].concat();
    let unfinished = folder.join("header.new");
    fs::write(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, &path))
        .map_err(|e| StateError::io(&path, e))
}
