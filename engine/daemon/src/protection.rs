//! What keeps the history in a bucket from whoever has the keys of this node, by what was found out of its provider. Pure.

use backstay_s3::{
    Checksums, ConditionalPut, Listing, LockMode, ObjectLock, Permission, Provider, Versioning,
};

/// What keeps it, as far as anything does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// What is replaced or deleted stays as a version, and no key of this node can delete that.
    Versions,
    /// What is replaced or deleted stays as a version for so many days from when an object was put: nobody can delete it before.
    Lock {
        /// How many.
        days: u32,
    },
    /// Nothing: versions are kept, and a key of this node can delete them for good.
    DeletableVersions,
    /// Nothing: no key of this node can delete, and what is there can be put over.
    Overwritten,
    /// Nothing at all.
    Nothing,
    /// Nobody can tell.
    Unknown,
}

impl Protection {
    /// By what was found out.
    pub fn of(provider: &Provider) -> Self {
        // Of two keys on one host an intruder has both.
        let keys = [Some(provider.deletes), provider.custodian_deletes];
        let may_delete = keys.contains(&Some(Permission::Allowed));
        let of_versions = [Some(provider.version_deletes), provider.custodian_version_deletes];
        match provider.versions {
            Versioning::On => match provider.object_lock {
                // What a probe puts is locked as well: whether the key may delete what is not any more, it cannot try.
                ObjectLock::ByDefault { days, mode: LockMode::Compliance } => Self::Lock { days },
                _ if of_versions.contains(&Some(Permission::Allowed)) => Self::DeletableVersions,
                ObjectLock::ByDefault { .. } => Self::Unknown,
                _ if of_versions.contains(&Some(Permission::Unknown)) => Self::Unknown,
                _ => Self::Versions,
            },
            Versioning::Unknown => Self::Unknown,
            Versioning::Off | Versioning::Suspended if provider.puts != Permission::Allowed => Self::Unknown,
            Versioning::Off | Versioning::Suspended if may_delete => Self::Nothing,
            Versioning::Off | Versioning::Suspended => Self::Overwritten,
        }
    }

    /// Whether all of the history is kept; nothing where nobody can tell.
    pub fn is_whole(self) -> Option<bool> {
        match self {
            Self::Versions => Some(true),
            Self::Lock { .. } | Self::DeletableVersions | Self::Overwritten | Self::Nothing => Some(false),
            Self::Unknown => None,
        }
    }
}

/// What a provider does, each with a word that stays the same.
pub fn answers(provider: &Provider) -> [(&'static str, Option<bool>); 7] {
    let may = |permission| match permission {
        Permission::Allowed => Some(true),
        Permission::Denied => Some(false),
        Permission::Unknown => None,
    };
    let conditional = match provider.conditional_put {
        ConditionalPut::Honoured => Some(true),
        ConditionalPut::Ignored | ConditionalPut::Refused => Some(false),
        ConditionalPut::Unknown => None,
    };
    let versions = match provider.versions {
        Versioning::On => Some(true),
        Versioning::Off | Versioning::Suspended => Some(false),
        Versioning::Unknown => None,
    };
    let lock = match provider.object_lock {
        ObjectLock::ByDefault { .. } => Some(true),
        ObjectLock::WithoutDefault | ObjectLock::Off => Some(false),
        ObjectLock::Unknown => None,
    };
    let checksums = match provider.checksums {
        Checksums::Verified => Some(true),
        Checksums::Kept | Checksums::Ignored | Checksums::Refused => Some(false),
        Checksums::Unknown => None,
    };
    let listing = match provider.listing {
        Listing::AtOnce => Some(true),
        Listing::Stale => Some(false),
        Listing::Unknown => None,
    };
    [
        ("conditional_put", conditional),
        ("versions", versions),
        ("object_lock", lock),
        ("checksums", checksums),
        ("consistent_listing", listing),
        ("may_delete", may(provider.deletes)),
        ("may_delete_versions", may(provider.version_deletes)),
    ]
}

/// One line on what a provider does.
pub fn summary(provider: &Provider) -> String {
    let conditional = match provider.conditional_put {
        ConditionalPut::Honoured => "keeps to conditions of a put",
        ConditionalPut::Ignored => "overwrites whatever the condition of a put",
        ConditionalPut::Refused => "takes no conditional put",
        ConditionalPut::Unknown => "may or may not keep to conditions of a put",
    };
    let versions = match provider.versions {
        Versioning::On => "versions are kept".to_owned(),
        Versioning::Suspended => "versions are suspended".to_owned(),
        Versioning::Off => "no versions are kept".to_owned(),
        Versioning::Unknown => "whether versions are kept, this key may not ask".to_owned(),
    };
    let lock = match provider.object_lock {
        ObjectLock::Off => "no object lock".to_owned(),
        ObjectLock::WithoutDefault => "object lock, but not by itself".to_owned(),
        ObjectLock::ByDefault { days, mode } => {
            let until = match mode {
                LockMode::Compliance => "",
                LockMode::Governance => ", which some keys can end",
            };
            format!("every object is locked for {days} days{until}")
        }
        ObjectLock::Unknown => "of object lock this key may not ask".to_owned(),
    };
    let checksums = match provider.checksums {
        Checksums::Verified => "checksums are compared",
        Checksums::Kept => "checksums are kept and not compared",
        Checksums::Ignored => "checksums are ignored",
        Checksums::Refused => "checksums are refused",
        Checksums::Unknown => "checksums: unknown",
    };
    let listing = match provider.listing {
        Listing::AtOnce => "listings show at once what was done",
        Listing::Stale => "listings do not show what was just done",
        Listing::Unknown => "listings: unknown",
    };
    let key = match (provider.puts, provider.deletes) {
        (Permission::Denied, _) => "this key may only read",
        (_, Permission::Allowed) => "this key may delete",
        (_, Permission::Denied) => "this key may not delete",
        _ => "whether this key may delete is unknown",
    };
    format!("it {conditional}; {versions}; {lock}; {checksums}; {listing}; {key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Provider = Provider {
        conditional_put: ConditionalPut::Ignored,
        versions: Versioning::Off,
        object_lock: ObjectLock::Off,
        checksums: Checksums::Verified,
        listing: Listing::AtOnce,
        puts: Permission::Allowed,
        deletes: Permission::Allowed,
        version_deletes: Permission::Unknown,
        custodian_deletes: None,
        custodian_version_deletes: None,
        left: 0,
        requests: 8,
    };

    #[test]
    fn only_versions_that_no_key_here_can_delete_keep_all_of_the_history() {
        use Permission::{Allowed, Denied, Unknown};
        assert_eq!(Protection::of(&PLAIN), Protection::Nothing);
        let no_delete = Provider { deletes: Denied, ..PLAIN };
        assert_eq!(Protection::of(&no_delete), Protection::Overwritten, "a put replaces");
        let kept = Provider { versions: Versioning::On, version_deletes: Denied, ..PLAIN };
        assert_eq!(Protection::of(&kept), Protection::Versions);
        let gone = Provider { version_deletes: Allowed, ..kept.clone() };
        assert_eq!(Protection::of(&gone), Protection::DeletableVersions);
        let custodian = Provider { custodian_version_deletes: Some(Allowed), ..kept.clone() };
        assert_eq!(Protection::of(&custodian), Protection::DeletableVersions, "both keys are here");
        let lock = |mode| ObjectLock::ByDefault { days: 30, mode };
        let locked = Provider { object_lock: lock(LockMode::Compliance), ..gone.clone() };
        assert_eq!(Protection::of(&locked), Protection::Lock { days: 30 });
        let locked = Provider { object_lock: lock(LockMode::Compliance), ..kept.clone() };
        assert_eq!(
            Protection::of(&locked),
            Protection::Lock { days: 30 },
            "the lock has refused, not the rights"
        );
        let governed = Provider { object_lock: lock(LockMode::Governance), ..gone };
        assert_eq!(Protection::of(&governed), Protection::DeletableVersions);
        for unknown in [
            Provider { object_lock: lock(LockMode::Governance), ..kept.clone() },
            Provider { versions: Versioning::Unknown, ..PLAIN },
            Provider { version_deletes: Unknown, ..kept },
            Provider { puts: Denied, deletes: Unknown, ..PLAIN },
        ] {
            assert_eq!(Protection::of(&unknown).is_whole(), None, "{unknown:?}");
        }
    }
}
