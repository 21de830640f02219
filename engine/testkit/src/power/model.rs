//! What is on a disk, and what of it is durable.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use bytes::{Bytes, BytesMut};

use super::disk::Step;
use super::image::Image;
use crate::random::Random;

/// The folder of the disk itself, which is always there.
const ROOT: usize = 0;

/// The state of a disk. A folder or file is a number, and stays the same under another name.
#[derive(Debug, Clone)]
pub struct Model {
    folders: Vec<BTreeMap<String, Name>>,
    files: Vec<Content>,
}

/// What a name in a folder has led to: what is durable, and after that what was not synced.
#[derive(Debug, Clone, Default)]
struct Name {
    durable: Option<Node>,
    since: Vec<Option<Node>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder(usize),
    File(usize),
}

#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Bytes,
    /// What of it was synced last.
    durable: Bytes,
}

impl Name {
    fn now(&self) -> Option<Node> {
        self.since.last().copied().unwrap_or(self.durable)
    }
}

/// Which of the possible images.
#[derive(Debug, Clone)]
enum Choice {
    /// Nothing that was not synced.
    Least,
    /// Every name as it was last; what was not synced of files is torn.
    Most,
    /// Nothing that was not synced, but for the last state of this name.
    Only(usize, String),
    /// Every name as it was last, but for this one.
    AllBut(usize, String),
    /// Anything.
    Any(Random),
}

impl Model {
    /// An empty disk.
    pub fn new() -> Self {
        Self { folders: vec![BTreeMap::new()], files: Vec::new() }
    }

    /// Does a step.
    ///
    /// # Panics
    /// When it cannot be done on what is there: then something has changed the disk and was not written down.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::MakeFolder(path) => {
                self.folders.push(BTreeMap::new());
                self.enter(path, Some(Node::Folder(self.folders.len() - 1)));
            }
            Step::MakeFile(path) => {
                self.files.push(Content::default());
                self.enter(path, Some(Node::File(self.files.len() - 1)));
            }
            Step::Write(path, written) => {
                let file = self.file(path);
                let content = &mut self.files[file];
                let mut bytes = BytesMut::from(&content.bytes[..]);
                bytes.extend_from_slice(written);
                content.bytes = bytes.freeze();
            }
            Step::WriteAt(path, offset, written) => {
                let file = self.file(path);
                let content = &mut self.files[file];
                let (start, mut bytes) = (*offset as usize, BytesMut::from(&content.bytes[..]));
                bytes.resize(bytes.len().max(start + written.len()), 0);
                bytes[start..start + written.len()].copy_from_slice(written);
                content.bytes = bytes.freeze();
            }
            Step::SyncFile(path) => {
                let file = self.file(path);
                let content = &mut self.files[file];
                content.durable = content.bytes.clone();
            }
            Step::SyncFolder(path) => {
                let folder = self.folder(path);
                for name in self.folders[folder].values_mut() {
                    name.durable = name.now();
                    name.since.clear();
                }
            }
            Step::Rename(from, to) => {
                let moved = self.node(from);
                assert!(moved.is_some(), "{} is not there", from.display());
                self.enter(to, moved);
                self.enter(from, None);
            }
            Step::Remove(path) => self.enter(path, None),
        }
    }

    /// What is on the disk while there is power.
    pub fn live(&self) -> Image {
        let mut model = self.clone();
        model.files.iter_mut().for_each(|content| content.durable = content.bytes.clone());
        model.image(&mut Choice::Most)
    }

    /// Some of what a loss of power may leave: the least and the most of it; that with each name alone that was not
    /// synced, and with all others, as far as `singles` goes, the newest first; and as many as `any` says in which
    /// everything is left to chance.
    pub fn images(&self, singles: usize, any: usize, random: &mut Random) -> Vec<Image> {
        let mut choices = vec![Choice::Least, Choice::Most];
        for (folder, name) in self.unsynced().into_iter().take(singles) {
            choices.push(Choice::Only(folder, name.clone()));
            choices.push(Choice::AllBut(folder, name));
        }
        choices.extend((0..any).map(|_| Choice::Any(Random::new(random.number()))));
        choices.iter_mut().map(|choice| self.image(choice)).collect()
    }

    /// Names that were not synced, without those of unfinished files, of which there are many.
    fn unsynced(&self) -> Vec<(usize, String)> {
        let mut unsynced = Vec::new();
        for (number, folder) in self.folders.iter().enumerate().rev() {
            let names = folder.iter().filter(|(_, name)| name.since.len() == 1);
            unsynced.extend(names.map(|(text, _)| (number, text.clone())));
        }
        unsynced
    }

    fn image(&self, choice: &mut Choice) -> Image {
        let mut image = Image::default();
        self.add(ROOT, Path::new(""), choice, &mut image);
        image
    }

    fn add(&self, folder: usize, path: &Path, choice: &mut Choice, image: &mut Image) {
        for (text, name) in &self.folders[folder] {
            let is_it = |of: usize, one: &String| of == folder && one == text;
            let node = match choice {
                Choice::Least => name.durable,
                Choice::Most => name.now(),
                Choice::Only(of, one) if is_it(*of, one) => name.now(),
                Choice::Only(..) => name.durable,
                Choice::AllBut(of, one) if is_it(*of, one) => name.durable,
                Choice::AllBut(..) => name.now(),
                Choice::Any(random) => match random.below(name.since.len() + 1) {
                    0 => name.durable,
                    place => name.since[place - 1],
                },
            };
            let path = path.join(text);
            match node {
                None => {}
                Some(Node::Folder(folder)) => {
                    image.folders.push(path.clone());
                    self.add(folder, &path, choice, image);
                }
                Some(Node::File(file)) => {
                    image.files.insert(path, self.files[file].after_loss(choice));
                }
            }
        }
    }

    /// Lets a path lead somewhere, or nowhere.
    fn enter(&mut self, path: &Path, node: Option<Node>) {
        let folder = self.folder(path.parent().unwrap_or(Path::new("")));
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.folders[folder].entry(name.to_owned()).or_default().since.push(node);
    }

    fn node(&self, path: &Path) -> Option<Node> {
        let mut node = Node::Folder(ROOT);
        for component in path.components() {
            let (Node::Folder(folder), Component::Normal(name)) = (node, component) else { return None };
            node = self.folders[folder].get(name.to_str()?)?.now()?;
        }
        Some(node)
    }

    fn folder(&self, path: &Path) -> usize {
        match self.node(path) {
            Some(Node::Folder(folder)) => folder,
            other => panic!("{} is no folder: {other:?}", path.display()),
        }
    }

    fn file(&self, path: &Path) -> usize {
        match self.node(path) {
            Some(Node::File(file)) => file,
            other => panic!("{} is no file: {other:?}", path.display()),
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Content {
    /// What is in the file afterwards.
    fn after_loss(&self, choice: &mut Choice) -> Bytes {
        if self.durable == self.bytes {
            return self.bytes.clone();
        }
        let kept = self.durable.len();
        let way = match choice {
            Choice::Least => 0,
            Choice::Most => 1,
            Choice::Only(..) => 2,
            Choice::AllBut(..) => 3,
            Choice::Any(random) => random.below(4),
        };
        match way {
            0 => self.durable.clone(),
            1 => self.bytes.slice(..kept + (self.bytes.len() - kept) / 2),
            2 => [&self.durable[..], &vec![0; self.bytes.len() - kept]].concat().into(),
            _ => self.bytes.clone(),
        }
    }
}
