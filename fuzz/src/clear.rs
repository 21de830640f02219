//! Names, and objects as a store gives them: signed clear text, envelopes, key bundles.

use backstay_core::id::DomainId;
use backstay_vault::clear::{self, ClearKind, FormatObject, TrustObject};
use backstay_vault::envelope::{self, EnvelopeKind};
use backstay_vault::keys::{AgeIdentity, Bundle};
use backstay_vault::malformed::{decode_cbor, encode_cbor};
use backstay_vault::name::ObjectName;

use crate::keys::{DOMAIN, FIXTURE, RING};

/// A name in a listing.
pub fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((name, named)) = ObjectName::parse(text) else { return };
    assert_eq!((name.as_str(), &named.to_name()), (text, &name), "one spelling only");
    let harmless = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/._-".contains(&byte);
    assert!(text.bytes().all(harmless) && !text.contains("..") && !text.starts_with('/'), "{text:?}");
    assert!(text.starts_with(name.stem()));
}

/// `format/` and `trust/`, signed or not.
pub fn clear(data: &[u8]) {
    let _ = clear::read::<FormatObject>(ClearKind::Format, data);
    let _ = clear::read::<TrustObject>(ClearKind::Trust, data);
    if let Ok(format) = decode_cbor::<FormatObject>(data) {
        let object = clear::sign(FIXTURE.admin(), ClearKind::Format, &format);
        assert_eq!(clear::read(ClearKind::Format, &object), Ok((format, FIXTURE.admin().public())));
    }
    if let Ok(trust) = decode_cbor::<TrustObject>(data) {
        assert_eq!(decode_cbor(&encode_cbor(&trust)), Ok(trust));
    }
}

/// An envelope as a store gives it: a name, a zero byte, the object.
pub fn envelope(data: &[u8]) {
    let Some(place) = data.iter().position(|byte| *byte == 0) else { return };
    let (name, object) = (&data[..place], &data[place + 1..]);
    let Some((name, _)) = std::str::from_utf8(name).ok().and_then(ObjectName::parse) else { return };
    for kind in [
        EnvelopeKind::Index,
        EnvelopeKind::Point,
        EnvelopeKind::Layout,
        EnvelopeKind::Head,
        EnvelopeKind::Session,
        EnvelopeKind::Fence,
        EnvelopeKind::Gc,
        EnvelopeKind::Bad,
    ] {
        if envelope::open(&RING, kind, name.stem(), object).is_ok() {
            let checked = envelope::check_signature(DomainId::new(DOMAIN), kind, name.stem(), object);
            assert!(checked.is_ok(), "what opens is signed");
        }
    }
}

/// The output of `age -d`, and an identity file.
pub fn bundle(data: &[u8]) {
    if let Ok(bundle) = Bundle::from_json(data) {
        assert_eq!(Bundle::from_json(&bundle.to_json()).ok(), Some(bundle));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = AgeIdentity::from_file(text);
    }
}
