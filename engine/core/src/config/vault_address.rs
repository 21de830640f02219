//! Addresses of vaults that stand in no configuration, as they are typed on the worst day: a directory, or a bucket as a URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::vault::{BucketAddressError, S3Vault};

/// Longest address that is read, bytes.
const ADDRESS_BYTES_MAX: usize = 2048;

/// What a bucket's address begins with.
const S3: &str = "s3://";

/// Where a vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a command has one of them")]
pub enum VaultAddress {
    /// A directory.
    Dir(PathBuf),
    /// A bucket.
    S3(S3Vault),
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultAddressError {
    /// Neither a bucket nor a path.
    #[error(
        "{0:?} is no address of a vault: write s3://BUCKET/PREFIX, or the path of a directory with a slash in it (./NAME for one here)"
    )]
    Neither(String),
    /// A part of the URL is nothing that a bucket has.
    #[error(
        "the address of a bucket is s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION, the last two as far as they are needed: {0}"
    )]
    Bucket(#[from] BucketAddressError),
    /// Something in the query that is not known.
    #[error("{0:?} is nothing that the address of a bucket has: `endpoint` and `region` are")]
    Query(String),
    /// An escape that is none.
    #[error("{0:?} has a % that is not followed by two hexadecimal digits")]
    Escape(String),
}

impl FromStr for VaultAddress {
    type Err = VaultAddressError;

    fn from_str(text: &str) -> Result<Self, VaultAddressError> {
        let Some(rest) = text.strip_prefix(S3) else {
            let path = text.strip_prefix("file://").unwrap_or(text);
            let is_url = path.split_once("://").is_some_and(|(scheme, _)| !scheme.contains('/'));
            return match path.contains('/') && !is_url && !path.contains('\0') {
                true => Ok(Self::Dir(PathBuf::from(path))),
                false => Err(VaultAddressError::Neither(text.chars().take(80).collect())),
            };
        };
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(VaultAddressError::Neither(text.chars().take(80).collect()));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let (mut endpoint, mut region) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "endpoint" => endpoint = Some(unescaped(value)?),
                "region" => region = Some(unescaped(value)?),
                other => return Err(VaultAddressError::Query(other.chars().take(80).collect())),
            }
        }
        Ok(Self::S3(S3Vault::at(bucket, prefix, endpoint.as_deref(), region.as_deref())?))
    }
}

impl VaultAddress {
    /// With what options say beside it; a directory has nothing of that.
    ///
    /// # Errors
    /// [`VaultAddressError`] names what cannot be beside it.
    pub fn with(self, endpoint: Option<&str>, region: Option<&str>) -> Result<Self, VaultAddressError> {
        match self {
            Self::Dir(path) if endpoint.is_some() || region.is_some() => {
                Err(VaultAddressError::Query(format!("--endpoint or --region with {}", path.display())))
            }
            Self::Dir(path) => Ok(Self::Dir(path)),
            Self::S3(s3) => {
                let endpoint = endpoint.or(s3.endpoint.as_deref());
                let region = region.or(s3.region.as_deref());
                Ok(Self::S3(S3Vault::at(&s3.bucket, &s3.prefix, endpoint, region)?))
            }
        }
    }
}

/// A bucket with its prefix alone, which goes through a shell as it is.
pub fn bucket_and_prefix(s3: &S3Vault) -> String {
    format!("{S3}{}/{}", s3.bucket, s3.prefix)
}

/// As it is typed.
impl fmt::Display for VaultAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => write!(f, "{}", path.display()),
            Self::S3(s3) => {
                f.write_str(&bucket_and_prefix(s3))?;
                let given = [("endpoint", &s3.endpoint), ("region", &s3.region)];
                let given = given.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
                for (n, (key, value)) in given.enumerate() {
                    // What an endpoint has otherwise needs no escape in a query.
                    let value = value.replace('%', "%25").replace('&', "%26");
                    write!(f, "{}{key}={value}", if n == 0 { '?' } else { '&' })?;
                }
                Ok(())
            }
        }
    }
}

/// A value of a query, in which `%2F` stands for a slash and so on.
fn unescaped(text: &str) -> Result<String, VaultAddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let failed = || VaultAddressError::Escape(text.chars().take(80).collect());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(failed)?;
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex).ok_or_else(failed)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| failed())?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        text.parse::<VaultAddress>().map(|address| address.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_read_and_shown_as_they_are_typed() {
        for text in [
            "/srv/vault",
            "./vault",
            "s3://backups/",
            "s3://backups/home/",
            "s3://backups/home/a/?endpoint=https://s3.example:9000&region=hel1",
            "s3://backups/?region=eu-central-1",
        ] {
            assert_eq!(read(text).as_deref(), Ok(text));
        }
        assert_eq!(read("s3://backups").as_deref(), Ok("s3://backups/"));
        assert_eq!(read("s3://backups/home").as_deref(), Ok("s3://backups/home/"));
        assert_eq!(read("file:///srv/vault").as_deref(), Ok("/srv/vault"));
        let escaped = "s3://backups/home/?endpoint=https%3A%2F%2Fs3.example";
        assert_eq!(read(escaped).as_deref(), Ok("s3://backups/home/?endpoint=https://s3.example"));
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_one_is() {
        for (text, why) in [
            ("vault", "is no address of a vault"),
            ("https://s3.example/backups", "is no address of a vault"),
            ("s3://", "cannot be the name of a bucket"),
            ("s3://b/", "cannot be the name of a bucket"),
            ("s3://backups//home", "cannot be a prefix"),
            ("s3://backups/../home", "cannot be a prefix"),
            ("s3://backups/?endpoint=s3.example", "is not the URL of an S3 service"),
            ("s3://backups/?key=secret", "\"key\" is nothing that"),
            ("s3://backups/?region=%4", "has a %"),
            ("s3://backups/?region=%zz", "has a %"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(read(&format!("s3://backups/{}", "a/".repeat(2000))).is_err());
    }

    #[test]
    fn options_say_what_an_address_leaves_out_and_go_before_what_it_says() {
        let address: VaultAddress = "s3://backups/?region=a".parse().expect("an address");
        let with = address.with(Some("https://s3.example"), Some("b")).expect("good");
        assert_eq!(with.to_string(), "s3://backups/?endpoint=https://s3.example&region=b");
        let folder: VaultAddress = "/srv/vault".parse().expect("an address");
        assert!(folder.clone().with(None, None).is_ok());
        assert!(folder.with(Some("https://s3.example"), None).is_err());
    }
}
