//! What is sealed in a kit: the recovery key, and the access keys of buckets. A small text, which is an age identity file as well:
//! what else there is stands in comments.

use backstay_core::config::{S3Vault, VaultAddress};
use zeroize::Zeroizing;

use super::wrap::{AgeIdentity, WrapError};

/// What stands before the access key of a bucket.
const BUCKET: &str = "# s3 ";

/// Most buckets that are read.
const BUCKETS_MAX: usize = 64;

/// A recovery key, and access keys of buckets.
#[derive(Debug)]
pub struct KeyFile {
    /// The recovery key.
    pub identity: AgeIdentity,
    /// Where each bucket is, and by which key it is reached.
    pub buckets: Vec<BucketKey>,
}

/// The access key of a bucket.
pub struct BucketKey {
    /// Where it is.
    pub bucket: S3Vault,
    /// The key's identifier.
    pub access: String,
    /// Its secret.
    pub secret: Zeroizing<String>,
}

/// Without the secret.
impl std::fmt::Debug for BucketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BucketKey").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl KeyFile {
    /// The text that is sealed.
    pub fn to_text(&self, title: &str) -> Zeroizing<String> {
        let mut text = Zeroizing::new(format!("# {title}\n"));
        for BucketKey { bucket, access, secret } in &self.buckets {
            let address = VaultAddress::S3(bucket.clone());
            text.push_str(&format!("{BUCKET}{address} {access} {}\n", secret.as_str()));
        }
        text.push_str(&self.identity.secret());
        text.push('\n');
        text
    }

    /// Reads such a text, or any file with an age identity. Comments that say something else are passed over.
    ///
    /// # Errors
    /// Where there is no identity in it.
    pub fn from_text(text: &str) -> Result<Self, WrapError> {
        let identity = AgeIdentity::from_file(text)?;
        let buckets = text.lines().filter_map(|line| bucket_key(line.trim())).take(BUCKETS_MAX).collect();
        Ok(Self { identity, buckets })
    }

    /// The access key of a bucket, as far as its address was given: endpoint and region may be left out.
    pub fn key_of(&self, wanted: &S3Vault) -> Option<&BucketKey> {
        let fits = |given: &Option<String>, known: &Option<String>| given.is_none() || given == known;
        let mut fitting = self.buckets.iter().filter(|known| {
            let known = &known.bucket;
            known.bucket == wanted.bucket
                && fits(&wanted.endpoint, &known.endpoint)
                && fits(&wanted.region, &known.region)
        });
        // A key may be good for its own prefix only.
        let same = fitting.clone().find(|known| known.bucket.prefix == wanted.prefix);
        same.or_else(|| fitting.next())
    }
}

fn bucket_key(line: &str) -> Option<BucketKey> {
    let mut words = line.strip_prefix(BUCKET)?.split_whitespace();
    let VaultAddress::S3(bucket) = words.next()?.parse().ok()? else { return None };
    let (access, secret) = (words.next()?.to_owned(), Zeroizing::new(words.next()?.to_owned()));
    words.next().is_none().then_some(BucketKey { bucket, access, secret })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(url: &str) -> S3Vault {
        match url.parse().expect("an address") {
            VaultAddress::S3(bucket) => bucket,
            VaultAddress::Dir(path) => panic!("{}", path.display()),
        }
    }

    #[test]
    fn a_key_and_its_buckets_are_read_again_and_the_key_by_age_as_well() {
        let identity = AgeIdentity::generate();
        let recipient = identity.recipient();
        let home = "s3://backups/home/?endpoint=https://s3.example&region=hel1";
        let key = |url: &str, access: &str| BucketKey {
            bucket: bucket(url),
            access: access.to_owned(),
            secret: Zeroizing::new(format!("secret of {access}").replace(' ', "+")),
        };
        let buckets = vec![
            key(home, "GK1"),
            key("s3://other/", "GK2"),
            key("s3://backups/away/?endpoint=https://s3.example&region=hel1", "GK3"),
        ];
        let text = KeyFile { identity, buckets }.to_text("recovery key of fleet home");
        let read = KeyFile::from_text(&text).expect("reads");
        assert_eq!(read.identity.recipient(), recipient);
        assert_eq!(AgeIdentity::from_file(&text).expect("an identity file").recipient(), recipient);
        let secret = |url: &str| read.key_of(&bucket(url)).map(|key| key.secret.to_string());
        assert_eq!(secret(home).as_deref(), Some("secret+of+GK1"));
        assert_eq!(secret("s3://backups/elsewhere/").as_deref(), Some("secret+of+GK1"), "as far as given");
        assert_eq!(secret("s3://backups/away/").as_deref(), Some("secret+of+GK3"), "the one for its prefix");
        assert_eq!(secret("s3://backups/?region=fsn1"), None);
        assert_eq!(secret("s3://other/").as_deref(), Some("secret+of+GK2"));
        assert!(!format!("{read:?}").contains("secret+of"));
    }

    #[test]
    fn comments_that_say_something_else_are_passed_over() {
        let identity = AgeIdentity::generate();
        let text = format!("# s3 is where it is\n# s3 s3://b/ one\n# s3 /dir a b\n{}", identity.to_file());
        let read = KeyFile::from_text(&text).expect("reads");
        assert!(read.buckets.is_empty());
        assert!(KeyFile::from_text("# s3 s3://backups/ a b\n").is_err(), "no key");
    }
}
