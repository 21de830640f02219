//! The listing of what objects were, page by page.

use std::fmt::Write as _;

use super::{Answer, State, document};

/// How many versions and marks of deletion a page of their listing has: as services do.
const VERSIONS_PAGE: usize = 1000;

impl State {
    /// Newest first, as the protocol has it, a page behind these markers.
    pub(super) fn list_versions(&self, prefix: &str, after: Option<(&String, &String)>) -> Answer {
        let below = self.held.iter().filter(|(key, _)| key.starts_with(prefix));
        let all = below.flat_map(|(key, all)| all.iter().rev().enumerate().map(move |at| (key, at)));
        let mut all = all.peekable();
        if let Some((after, id)) = after {
            all.by_ref().find(|(key, (_, held))| *key == after && held.id == *id);
        }
        let mut text = String::new();
        let mut last = None;
        for (key, (age, held)) in all.by_ref().take(VERSIONS_PAGE) {
            let (tag, size) = match &held.content {
                Some(content) => ("Version", format!("<Size>{}</Size>", content.len())),
                None => ("DeleteMarker", String::new()),
            };
            let (id, is_latest) = (&held.id, age == 0);
            let _ = write!(
                text,
                "<{tag}><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{is_latest}</IsLatest>{size}</{tag}>",
            );
            last = Some((key, id));
        }
        let more = match last.filter(|_| all.peek().is_some()) {
            None => "<IsTruncated>false</IsTruncated>".to_owned(),
            Some((key, id)) => format!(
                "<IsTruncated>true</IsTruncated><NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>{id}</NextVersionIdMarker>"
            ),
        };
        document("ListVersionsResult", &format!("{more}{text}"))
    }
}
