//! What an operator reads after an evening of editing: all mistakes at once, each with its place and what to do. A
//! change of wording is seen here before operators see it (`INSTA_UPDATE=always` writes the new text).

use super::*;

const MISTAKES: &str = r#"[fleet]
name = "Home"
[node]
name = "box"
state = "var/lib/backstay"
metrics = "everywhere"
[vault.local]
kind = "dir"
path = "/srv/vault"
undelet = "7d"
[vault.cloud]
kind = "s3"
endpoint = "ftp://s3.example"
[policy.default]
to = ["locl"]
rpo = "soon"
keep = { daily = -1 }
[service.static]
files = { path = "/srv/static", exclude = ["[a"] }
[service.photos]
files = { path = "/srv/photos", policy = "slow" }
[secret.local]
password = "hunter2"
"#;

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let errors = parse(MISTAKES).expect_err("a dozen mistakes");
    insta::assert_snapshot!(errors);
}
