//! Certificates of another authority than the fleet's own, made with OpenSSL as step-ca makes them: a root that is kept away, one
//! below it that issues, and a certificate on P-256 for each node.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use backstay_core::units::Timestamp;
use serde_json::Value;

use crate::daemon::wait_for;
use crate::judge::assert_same;
use crate::outcome::{Outcome, run};
use crate::pair::Pair;

/// An authority in a folder.
struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let authority = Self { folder: tempfile::tempdir().unwrap() };
        authority.make("root", None, "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign", 3650);
        authority.make(
            "issuing",
            Some("root"),
            "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=keyCertSign",
            3650,
        );
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.folder.path());
        run(command).good();
    }

    /// A key, and a certificate for it by `issuer`, or by itself.
    fn make(&self, name: &str, issuer: Option<&str>, extensions: &str, days: u32) {
        let file = |kind: &str| format!("{name}.{kind}");
        fs::write(self.path(&file("ext")), extensions).unwrap();
        if !self.path(&file("key")).exists() {
            self.openssl(&[
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-out",
                &file("key"),
            ]);
        }
        self.openssl(&[
            "req",
            "-new",
            "-key",
            &file("key"),
            "-subj",
            &format!("/CN={name}"),
            "-out",
            &file("csr"),
        ]);
        let days = days.to_string();
        let (csr, crt, ext) = (file("csr"), file("crt"), file("ext"));
        let mut sign = vec!["x509", "-req", "-in", &csr, "-out", &crt, "-days", &days, "-extfile", &ext];
        let (own_key, issuer_crt, issuer_key) =
            (file("key"), issuer.map(|name| format!("{name}.crt")), issuer.map(|name| format!("{name}.key")));
        match (&issuer_crt, &issuer_key) {
            (Some(crt), Some(key)) => sign.extend(["-CA", crt, "-CAkey", key, "-CAcreateserial"]),
            _ => sign.extend(["-signkey", &own_key]),
        }
        self.openssl(&sign);
    }

    /// The certificate of a node, with that of who issues it: as step-ca gives them.
    fn issue(&self, file: &str, names: &str) {
        let extensions = format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth");
        self.make(file, Some("issuing"), &extensions, 1);
        let chain = ["issuing.crt"].map(|above| fs::read_to_string(self.path(above)).unwrap()).concat();
        let own = fs::read_to_string(self.path(&format!("{file}.crt"))).unwrap();
        fs::write(self.path(&format!("{file}.crt")), own + &chain).unwrap();
    }

    /// Has alpha import what stands in these files.
    fn import(&self, pair: &Pair, [certificate, key]: [&str; 2], more: &[&str]) -> Outcome {
        let files = [format!("{certificate}.crt"), format!("{key}.key")].map(|file| self.path(&file));
        let mut arguments = vec!["identity", "import"];
        arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
        arguments.extend(more);
        pair.run(0, arguments)
    }
}

const ALPHA: &str = "URI:spiffe://test/node/alpha,DNS:alpha.example";

#[test]
fn a_node_goes_by_a_certificate_of_another_authority_and_of_its_renewals() {
    let (pair, authority) = (Pair::together(), Authority::new());
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    authority.issue("alpha", ALPHA);
    let (root, recovery) = (authority.path("root.crt"), pair.recovery());
    let (root, recovery) = (root.to_str().unwrap(), recovery.to_str().unwrap());
    let told = authority.import(&pair, ["alpha", "alpha"], &["--ca", root, "--recovery", recovery]);
    assert!(told.good().text().contains("shows the certificate"));
    // The other node has been told who is believed now, while its daemon runs.
    pair.change(1);
    pair.run(0, ["now"]).good();
    assert_same(&pair.source(), &pair.restore(1, "captured with it", &[]));
    let until = |pair: &Pair| {
        let listed: Value = serde_json::from_slice(&pair.run(0, ["node", "list", "--json"]).stdout).unwrap();
        let own = listed.as_array().unwrap().iter().find(|node| node["node"] == "alpha").unwrap();
        own["certificate_valid_until"].as_str().expect("it is valid").to_owned()
    };
    let first = until(&pair);
    // That of the fleet is valid for 30 days, and of a key that the roster does not name any more.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(first < Timestamp::from_seconds(now as i64 + 2 * 24 * 3600).to_string(), "{first}");
    // Renewed for the same key: nothing has to be signed, so that a timer can do it.
    authority.make(
        "alpha",
        Some("issuing"),
        &format!("subjectAltName={ALPHA}\nextendedKeyUsage=clientAuth,serverAuth"),
        3,
    );
    let issuing = fs::read_to_string(authority.path("issuing.crt")).unwrap();
    let own = fs::read_to_string(authority.path("alpha.crt")).unwrap();
    fs::write(authority.path("alpha.crt"), own + &issuing).unwrap();
    authority.import(&pair, ["alpha", "alpha"], &[]).good();
    assert_ne!(until(&pair), first);
    // The daemon keeps it: it asks no issuer of the fleet for another one.
    let imported = until(&pair);
    let alpha = pair.daemon(0);
    wait_for("a flow that is known", || pair.figure(0, "backstay_rpo_exposure_seconds{").is_some());
    pair.change(2);
    pair.run(0, ["now"]).good();
    alpha.terminate().good();
    assert_eq!(until(&pair), imported);
    beta.terminate().good();
}

#[test]
fn a_certificate_that_is_not_this_nodes_is_refused_and_nothing_is_changed() {
    let (pair, authority) = (Pair::together(), Authority::new());
    authority.issue("alpha", ALPHA);
    authority.issue("beta", "URI:spiffe://test/node/beta");
    authority.issue("nameless", "DNS:alpha.example");
    authority.issue("two", "URI:spiffe://test/node/alpha,URI:spiffe://test/node/beta");
    authority.issue("elsewhere", "URI:spiffe://other/node/alpha");
    let (root, recovery) = (authority.path("root.crt"), pair.recovery());
    let with_root = ["--ca", root.to_str().unwrap(), "--recovery", recovery.to_str().unwrap()];
    let refused = |files: [&str; 2], more: &[&str], words: &[&str]| {
        authority.import(&pair, files, more).refused(2, words);
    };
    refused(["alpha", "alpha"], &with_root[2..], &["not issued by an authority of the fleet", "--ca FILE"]);
    refused(["alpha", "beta"], &with_root, &["the key is not that of the certificate"]);
    refused(["beta", "beta"], &with_root, &["is that of beta", "this node is alpha"]);
    refused(["nameless", "nameless"], &with_root, &["spiffe://test/node/NAME"]);
    refused(["two", "two"], &with_root, &["does not name one node"]);
    refused(["elsewhere", "elsewhere"], &with_root, &["does not name one node"]);
    refused(["alpha", "alpha"], &with_root[..2], &["--recovery FILE"]);
    refused(["missing", "alpha"], &with_root, &["cannot read", "missing.crt"]);
    fs::write(authority.path("empty.crt"), "").unwrap();
    refused(["empty", "alpha"], &with_root, &["no certificate in it"]);
    // It goes on with the one that it has.
    let _beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
}
