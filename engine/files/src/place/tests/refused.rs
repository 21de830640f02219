//! What cannot be placed as it was, and is reported.

use super::*;

#[test]
fn a_directory_with_something_in_it_is_not_replaced_by_a_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("full/x")).unwrap();
    fs::create_dir_all(dir.path().join("empty")).unwrap();
    let destination = open(dir.path(), Existing::Replace);
    let mut placer = placer(&destination);
    place_file(&mut placer, "empty", "now a file");
    let error = placer.place(&key("full"), &file(1), wanted(0o644)).unwrap_err();
    assert_eq!(error, PlaceError::InTheWay { key: key("full") });
    assert!(dir.path().join("full/x").is_dir());
}

#[test]
fn a_link_to_a_file_that_was_not_placed_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let link = LinkId::new([9; 16]);
    let error = placer(&destination).link(&path("name"), &link).unwrap_err();
    assert_eq!(error, PlaceError::LinkMissing { key: key("name"), link });
}

#[test]
fn owners_that_cannot_be_given_are_reported_and_take_set_id_bits_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    let mut foreign = wanted(0o6755);
    (foreign.meta.uid, foreign.meta.gid) = (4321, 4321);
    let Placed::File(new) = placer.place(&key("file"), &file(0), foreign).unwrap() else { panic!() };
    let defects = new.finish();
    let mode = fs::metadata(dir.path().join("file")).unwrap().mode() & 0o7777;
    if is_root() {
        assert_eq!((defects, mode), (vec![], 0o6755));
    } else {
        let lacking: Vec<_> = defects.iter().map(|defect| (&defect.lacking, defect.error)).collect();
        assert_eq!(lacking, [(&Lacking::Owner, Errno::PERM), (&Lacking::Mode, Errno::PERM)]);
        assert_eq!(mode, 0o755);
    }
}

#[test]
fn attributes_that_cannot_be_given_are_reported_by_name() {
    use crate::row::{Attribute, AttributeName, AttributeValue};
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    let mut odd = wanted(0o644);
    let name = AttributeName::new(b"nowhere.odd").unwrap();
    let attribute = Attribute { name: name.clone(), value: AttributeValue::Inline([1].into()) };
    odd.meta.attributes = Attributes::new(vec![attribute]).unwrap();
    let Placed::File(new) = placer.place(&key("file"), &file(0), odd).unwrap() else { panic!() };
    let expected = Defect { key: key("file"), lacking: Lacking::Attribute(name), error: Errno::OPNOTSUPP };
    assert!(expected.to_string().contains("nowhere.odd"));
    assert_eq!(new.finish(), [expected]);
}

#[test]
fn devices_are_made_by_root_and_reported_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let object = Object::CharDevice(DeviceNumber { major: 1, minor: 3 });
    let placed = placer(&destination).place(&key("null"), &object, wanted(0o666));
    if is_root() {
        assert!(placed.is_ok(), "{placed:?}");
    } else {
        let expected = PlaceError::NotPermitted { key: key("null"), kind: FileKind::CharDevice };
        assert_eq!(placed.unwrap_err(), expected);
    }
}
