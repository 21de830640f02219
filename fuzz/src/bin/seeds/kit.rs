//! What is typed from paper: pages, what is sealed on them, and addresses.

use backstay_core::config::VaultAddress;
use backstay_fuzz::keys::FIXTURE;
use backstay_testkit::random::Random;
use backstay_vault::keys::{BucketKey, KeyFile, armor};
use zeroize::Zeroizing;

use super::Seeds;

/// Addresses of vaults, with all that one may have.
const ADDRESSES: [(&str, &str); 5] = [
    ("bucket", "s3://backups/home/?endpoint=https://s3.example&region=hel1"),
    ("escaped", "s3://backups/home?endpoint=https%3A%2F%2Fs3.example%26a%25"),
    ("with-endpoint", "s3://backups/\0https://s3.example:3900"),
    ("directory", "file:///mnt/disk/backstay-vault"),
    ("listen", "tailnet:7420"),
];

pub(super) fn typed(seeds: &mut Seeds) {
    for (name, address) in ADDRESSES {
        seeds.push(("address", name, address.as_bytes().to_vec()));
    }
    let page = |bytes: usize| {
        let key = armor::to_lines(&Random::new(bytes as u64).bytes(bytes));
        format!("BACKSTAY RECOVERY KIT - fleet home\n\n{}\n", key.join("\n")).into_bytes()
    };
    seeds.push(("kit_page", "page", page(400)));
    seeds.push(("kit_page", "short", page(1)));
    let VaultAddress::S3(bucket) = ADDRESSES[0].1.parse().expect("an address") else {
        unreachable!("it is of a bucket")
    };
    let identity = FIXTURE.identity().clone();
    let secret = Zeroizing::new("secret".to_owned());
    let key = KeyFile { identity, buckets: vec![BucketKey { bucket, access: "GK1".to_owned(), secret }] };
    seeds.push(("kit_page", "sealed", key.to_text("Backstay, fleet home").as_bytes().to_vec()));
}
