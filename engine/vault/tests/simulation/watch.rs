//! What is looked at after a change that could have taken something away.

use std::sync::Arc;

use backstay_core::layout::Layout;
use backstay_core::point::{PointCommon, VaultPart};
use backstay_testkit::capture::read_back;
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge::{Object, payload_of};
use backstay_testkit::sim::{Change, Effect, World};
use backstay_vault::envelope::EnvelopeKind;
use backstay_vault::malformed::decode_cbor;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::vault::Vault;
use minicbor::Decode;

use crate::ledger::{Ledger, StoreNumber};

/// Of the payload of a point what this has to know.
#[derive(Decode)]
#[cbor(map)]
struct InPoint {
    #[cbor(n(0), with = "minicbor::bytes")]
    common: Vec<u8>,
    #[n(3)]
    vault_part: VaultPart,
}

/// Takes in a change, and says whether it is one after which everything is to be looked at.
pub(crate) fn take_in(fixture: &VaultFixture, ledger: &Ledger, effect: &Effect<'_>) -> Result<bool, String> {
    let change = effect.change;
    let Some((_, named)) = ObjectName::parse(change.name.as_str()) else { return Ok(false) };
    let Some(content) = &change.content else {
        return Ok(matches!(named, Named::Pack(_) | Named::Index(..) | Named::Point(..) | Named::Layout(..)));
    };
    match named {
        Named::Session(session) => ledger.session_put(effect.process, session),
        Named::Point(_, id, _) => {
            let object = Object { name: change.name.clone(), content: content.clone() };
            let payload = payload_of(fixture.ring(), EnvelopeKind::Point, &object);
            let point: InPoint = decode_cbor(&payload).map_err(|error| error.to_string())?;
            let common: PointCommon = decode_cbor(&point.common).map_err(|error| error.to_string())?;
            ledger.point_put(id, common.sequence, point.vault_part.partial.is_some());
        }
        Named::Fence(session) => ledger.fence_put(session),
        Named::Layout(source, ..) => {
            let object = Object { name: change.name.clone(), content: content.clone() };
            let payload = payload_of(fixture.ring(), EnvelopeKind::Layout, &object);
            let layout: Layout = decode_cbor(&payload).map_err(|error| error.to_string())?;
            ledger.layout(effect.store, source, &layout)?;
            return Ok(true);
        }
        _ => {}
    }
    Ok(false)
}

/// Everything that has to be there is, and everything that is there is right.
pub(crate) fn look(
    fixture: &VaultFixture,
    ledger: &Ledger,
    world: &World,
    store: StoreNumber,
) -> Result<(), String> {
    let vault = fixture.open(world.direct(store)).map_err(|error| error.to_string())?;
    look_at(&vault, ledger, store)
}

pub(crate) fn look_at(vault: &Arc<Vault>, ledger: &Ledger, store: StoreNumber) -> Result<(), String> {
    let mut required = ledger.required(store);
    for source in vault.sources().map_err(|error| error.to_string())? {
        let catalogue = vault.catalogue(source).map_err(|error| error.to_string())?;
        for point in catalogue.points() {
            let (id, common) = (point.link.point, &point.common);
            let is_required = required.remove(&id);
            let read = match read_back(vault, &common.source_name, id) {
                Ok(read) => read,
                Err(error) if is_required => {
                    return Err(format!("{id} of {} was acknowledged, and {error}", common.source_name));
                }
                // Nobody was told that it is there.
                Err(_) => continue,
            };
            let Some(state) = ledger.state_of(common) else {
                return Err(format!("{id} was never captured"));
            };
            if read.state != state || read.digest != common.digest {
                return Err(format!("{id} of {} reads otherwise than it was captured", common.source_name));
            }
        }
    }
    match required.first() {
        None => Ok(()),
        Some(lost) => Err(format!(
            "{lost} was acknowledged and does not count (of {}; fate {:?})",
            required.len(),
            ledger.fate(store, *lost)
        )),
    }
}

/// The same for what was put into this folder while nobody watched.
pub(crate) fn take_in_all(
    fixture: &VaultFixture,
    ledger: &Ledger,
    world: &World,
    (store, folder): (StoreNumber, &str),
) -> Result<(), String> {
    for object in fixture.objects(&*world.direct(store), folder) {
        let change = Change { name: object.name, content: Some(object.content) };
        let effect = Effect { time: world.now(), process: "the end", store, change: &change };
        take_in(fixture, ledger, &effect)?;
    }
    Ok(())
}
