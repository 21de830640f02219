//! What a host lets in of the datagrams that others send it, by nftables in its namespace. Owns the rules and their counters.

use backstay_testkit::process::run;
use serde_json::Value;

/// Datagrams of UDP that a host was sent are counted, and then lost or not.
pub(crate) struct Filter {
    namespace: String,
}

/// Since the filter was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    /// Datagrams that came as far as the host.
    pub(crate) came: u64,
    /// Those of them that were lost there.
    pub(crate) lost: u64,
}

impl Filter {
    /// A filter that loses nothing.
    pub(crate) fn new(namespace: &str) -> Self {
        // What is sent in one call would be one to the filter of the other host, and be lost whole.
        run(&["ip", "-n", namespace, "link", "set", "eth0", "gso_max_segs", "1"]).expect("it is set");
        let filter = Self { namespace: namespace.to_owned() };
        filter.change(
            "add table ip way; add counter ip way came; add counter ip way lost; add counter ip way several; \
             add chain ip way weather; \
             add chain ip way input { type filter hook input priority 0; policy accept; }; \
             add rule ip way input meta l4proto udp counter name came jump weather; \
             add rule ip way input meta l4proto udp meta length > 1500 counter name several",
        );
        filter
    }

    /// Loses so many of 10 000 from now on.
    pub(crate) fn lose(&self, of_10_000: u32) {
        self.change(&format!(
            "flush chain ip way weather; \
             add rule ip way weather numgen random mod 10000 < {of_10_000} counter name lost drop"
        ));
    }

    /// Lets nothing in from now on.
    pub(crate) fn cut(&self) {
        self.change("flush chain ip way weather; add rule ip way weather counter name lost drop");
    }

    /// Lets everything in from now on.
    pub(crate) fn mend(&self) {
        self.change("flush chain ip way weather");
    }

    /// What came and what was lost so far.
    pub(crate) fn counts(&self) -> Counts {
        let listed = self.nft(&["-j", "list", "counters"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let packets = |name: &str| {
            let mut counters = listed["nftables"].as_array().unwrap().iter().map(|one| &one["counter"]);
            counters.find(|counter| counter["name"] == name).unwrap()["packets"].as_u64().unwrap()
        };
        assert_eq!(packets("several"), 0, "each datagram has its own fate");
        Counts { came: packets("came"), lost: packets("lost") }
    }

    /// All of it at once, as nftables does.
    fn change(&self, rules: &str) {
        self.nft(&[rules]);
    }

    fn nft(&self, arguments: &[&str]) -> String {
        let fixed = ["ip", "netns", "exec", &self.namespace, "nft"];
        run(&[&fixed, arguments].concat()).expect("nft does it")
    }
}
