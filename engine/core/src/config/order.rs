//! The order of services. Owns the search for services that wait for each other; who starts them when is the
//! daemon's.

use std::collections::{BTreeMap, BTreeSet};

use super::name::ServiceName;
use super::service::Service;

/// A circle of services each of which waits for the next, and the last for the first; `None` without one.
pub(super) fn find_circle(services: &BTreeMap<ServiceName, Service>) -> Option<Vec<&ServiceName>> {
    // A walk in depth without recursion: `path` is the way here, each step with what it still has to visit.
    let mut done: BTreeSet<&ServiceName> = BTreeSet::new();
    for start in services.keys() {
        let mut path = vec![(start, before(services, start))];
        let mut on_path = BTreeSet::from([start]);
        while let Some((_, ahead)) = path.last_mut() {
            let Some(next) = ahead.next() else {
                let (left, _) = path.pop()?;
                on_path.remove(left);
                done.insert(left);
                continue;
            };
            if on_path.contains(next) {
                return Some(path.iter().map(|(name, _)| *name).skip_while(|name| *name != next).collect());
            }
            if !done.contains(next) {
                on_path.insert(next);
                path.push((next, before(services, next)));
            }
        }
    }
    None
}

fn before<'a>(
    services: &'a BTreeMap<ServiceName, Service>,
    name: &ServiceName,
) -> std::slice::Iter<'a, ServiceName> {
    services.get(name).map(|service| service.after.as_slice()).unwrap_or_default().iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Services written as `a>b` for "a after b".
    fn circle(written: &str) -> Option<Vec<String>> {
        let mut services = BTreeMap::new();
        for (name, after) in written.split(' ').map(|word| word.split_once('>').unwrap_or((word, ""))) {
            let name: ServiceName = name.parse().unwrap();
            let after = after.split(',').filter(|text| !text.is_empty()).map(|text| text.parse().unwrap());
            let (primary, secondary, sources) = ("box".parse().unwrap(), Vec::new(), Vec::new());
            let service = Service { name: name.clone(), primary, secondary, after: after.collect(), sources };
            services.insert(name, service);
        }
        find_circle(&services).map(|names| names.into_iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_order_without_circle_is_fine() {
        assert_eq!(circle("a"), None);
        assert_eq!(circle("a>b,c b>c c"), None);
        assert_eq!(circle("a>b,c b>d c>d d"), None);
    }

    #[test]
    fn a_circle_is_found_without_what_merely_waits_for_it() {
        assert_eq!(circle("a>a"), Some(vec!["a".into()]));
        assert_eq!(circle("a>b b>c c>b"), Some(vec!["b".into(), "c".into()]));
        assert_eq!(circle("a b>a c>d d>e e>c"), Some(vec!["c".into(), "d".into(), "e".into()]));
    }
}
