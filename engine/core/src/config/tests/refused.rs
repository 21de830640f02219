//! What must be refused, and what the operator is told.

use super::*;

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_key() {
    let problem = problem_after("path = \"/srv/vault\"", "path = \"/srv/vault\"\nundelet = \"7d\"");
    assert_eq!(
        problem.to_string(),
        "backstay.toml:10:1: vault.local.undelet: there is no such key\n    did you mean \"undelete\"?"
    );
    assert_eq!(problem.kind, ProblemKind::UnknownKey);
}

#[test]
fn unknown_keys_are_refused_in_every_table() {
    for (table, key) in [
        ("[fleet]", "fleet.zz"),
        ("[node]", "node.zz"),
        ("[vault.local]", "vault.local.zz"),
        ("[service.static]", "service.static.zz"),
        ("[hook]", "hook.zz"),
        ("[allow]", "allow.zz"),
        ("[policy.default]", "policy.default.zz"),
        ("[policy.default.keep]", "policy.default.keep.zz"),
        ("[policy.default.verify]", "policy.default.verify.zz"),
        ("[hold.other]", "hold.other.zz"),
        ("[hold.other.vault]", "hold.other.vault.zz"),
        ("[secret.local]", "secret.local.zz"),
        ("[zz]", "zz"),
    ] {
        let text = if MINIMAL.contains(table) {
            MINIMAL.replacen(table, &format!("{table}\nzz = 1"), 1)
        } else {
            let text = format!("{MINIMAL}{table}\nzz = 1\n");
            text.replacen("name = \"home\"", "name = \"home\"\nnodes = { box = \"a:1\", other = \"b:1\" }", 1)
                .replacen("[service.static]", "[service.static]\nprimary = \"box\"", 1)
        };
        let errors = parse(&text).expect_err(table);
        let found = errors.problems.iter().any(|p| p.kind == ProblemKind::UnknownKey && p.key == key);
        assert!(found, "{table}: {errors}");
    }
}

#[test]
fn a_table_in_the_wrong_file_is_sent_to_the_right_one() {
    let fleet = format!("{FLEET}[hook]\nstart = [\"x\"]\n");
    let errors = parse_pair(&fleet, NODE).expect_err("a hook in fleet.toml");
    let [problem] = errors.problems.as_slice() else { panic!("{errors}") };
    assert_eq!(problem.kind, ProblemKind::WrongFile);
    assert_eq!((problem.file.as_str(), problem.key.as_str()), ("fleet.toml", "hook"));
    assert_eq!(problem.what, "[hook] does not belong into fleet.toml");
    assert_eq!(problem.fix, "move it to node.toml");

    let errors =
        parse_pair(FLEET, &format!("{NODE}[policy.x]\nrpo = \"1m\"\n")).expect_err("a policy in node.toml");
    assert_eq!(errors.problems[0].what, "[policy] does not belong into node.toml");
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_lines() {
    let text = r#"[fleet]
name = "Home"
[node]
name = "box"
state = "state"
[vault.local]
kind = "dri"
[service.static]
primary = "bix"
files = { path = "srv", rpo = "15 min", to = ["lokal"] }
"#;
    let errors = parse(text).expect_err("many faults");
    let found: Vec<_> =
        errors.problems.iter().map(|p| (p.line, p.column, p.key.as_str(), p.what.as_str())).collect();
    assert_eq!(
        found,
        [
            (2, 1, "fleet.name", "\"Home\" cannot be the name of a fleet"),
            (5, 1, "node.state", "\"state\" is not an absolute path"),
            (7, 1, "vault.local.kind", "\"dri\" is not possible here"),
            (9, 1, "service.static.primary", "there is no node \"bix\""),
            (10, 11, "service.static.files.path", "\"srv\" is not an absolute path"),
            (10, 25, "service.static.files.rpo", "\"15 min\" is not a duration: a unit is missing after 15"),
            (10, 47, "service.static.files.to", "there is no vault \"lokal\""),
        ]
    );
    assert!(errors.to_string().contains("did you mean \"box\"?"), "{errors}");
    assert!(errors.to_string().contains("did you mean \"local\"?"), "{errors}");
}

#[test]
fn a_secret_in_the_configuration_is_refused_and_not_repeated() {
    let text = format!("{MINIMAL}[secret.local]\naccess = \"env:ID\"\nsecret = \"hunter2\"\n");
    let errors = parse(&text).expect_err("a literal secret");
    assert_eq!(errors.problems.len(), 1, "{errors}");
    assert!(
        errors.to_string().contains("secret.local.secret: a secret must not stand in the configuration"),
        "{errors}"
    );
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
}

#[test]
fn values_of_the_wrong_type_are_told_apart() {
    let problem = problem_after("path = \"/srv/static\"", "path = 7");
    assert_eq!((problem.kind, problem.what.as_str()), (ProblemKind::WrongType, "it is a whole number"));
    assert_eq!(problem.fix, "write a string in quotes");
    assert_eq!(
        problem_after("files = { path = \"/srv/static\" }", "files = \"/srv/static\"").fix,
        "write a table"
    );
    assert_eq!(
        problem_after("\"/srv/static\"", "\"/srv/static\", mirror = \"no\"").fix,
        "write true or false"
    );
    assert_eq!(problem_after("\"/srv/static\"", "\"/srv/static\", exclude = \"*.o\"").fix, "write an array");
}

#[test]
fn what_is_missing_is_named_with_an_example() {
    assert_eq!(problem_after("name = \"home\"", "").fix, "add name = \"NAME\"");
    assert_eq!(problem_after("[fleet]\nname = \"home\"", "").what, "the table [fleet] is missing");
    assert_eq!(problem_after("path = \"/srv/vault\"", "").fix, "add path = \"/srv/backstay/vault\"");
    assert_eq!(problem_after("kind = \"dir\"", "").key, "vault.local");
    assert_eq!(problem_after("files = { path = \"/srv/static\" }", "").what, "it protects nothing");
    let no_vault = problem_after("[vault.local]\nkind = \"dir\"\npath = \"/srv/vault\"", "");
    assert_eq!(no_vault.what, "this source goes nowhere");
}

#[test]
fn several_vaults_make_it_necessary_to_say_which() {
    let problem =
        problem_after("[service.static]", "[vault.b]\nkind = \"dir\"\npath = \"/b\"\n[service.static]");
    assert_eq!((problem.key.as_str(), problem.kind), ("service.static.files", ProblemKind::MissingKey));
    assert!(problem.fix.starts_with("there are several vaults"), "{problem}");
}

#[test]
fn durations_and_counts_of_zero_are_refused() {
    for keys in
        ["rpo = \"0s\"", "rpo = { local = \"0s\" }", "keep = { daily = 0 }", "keep = { all = \"0s\" }"]
    {
        let problem = problem_after("\"/srv/static\"", &format!("\"/srv/static\", {keys}"));
        assert_eq!(problem.what, "it is 0", "{keys}");
    }
    let negative = problem_after("\"/srv/static\"", "\"/srv/static\", keep = { daily = -3 }");
    assert_eq!(negative.what, "-3 is out of range");
}

#[test]
fn each_node_has_an_address_of_its_own() {
    let with = |nodes: &str| {
        let text = MINIMAL.replacen("name = \"home\"", &format!("name = \"home\"\nnodes = {nodes}"), 1);
        parse(&text.replacen("[service.static]", "[service.static]\nprimary = \"box\"", 1))
    };
    for nodes in [
        "{ box = \"a:1\", crate = \"b:1\", chest = \"a:1\" }",
        "{ box = \"a.net:1\", crate = \"b:1\", chest = \"A.net:1\" }",
        "{ box = \"[fd7a::2]:1\", crate = \"b:1\", chest = \"[fd7a:0::2]:1\" }",
    ] {
        let errors = with(nodes).expect_err(nodes);
        let [problem] = &errors.problems[..] else { panic!("{errors}") };
        assert_eq!((problem.kind, problem.key.as_str()), (ProblemKind::Conflict, "fleet.nodes.chest"));
        assert!(problem.what.starts_with("chest and box are both at "), "{problem}");
    }
    with("{ box = \"a:1\", crate = \"a:2\" }").expect("on one host, each at its port");
}

#[test]
fn nodes_must_be_of_the_fleet_and_the_secondary_another_than_the_primary() {
    let with_nodes = |service: &str| {
        let nodes = "name = \"home\"\nnodes = { box = \"a:1\", crate = \"b:1\" }";
        let text = MINIMAL.replacen("name = \"home\"", nodes, 1);
        let text = text.replacen("[service.static]", &format!("[service.static]\n{service}"), 1);
        parse(&text).expect_err(service).to_string()
    };
    assert!(with_nodes("").contains("the key \"primary\" is missing"));
    assert!(with_nodes("primary = \"crat\"").contains("did you mean \"crate\"?"));
    assert!(with_nodes("primary = \"box\"\nsecondary = [\"box\"]").contains("box is the primary already"));
    assert!(
        with_nodes("primary = \"box\"\nsecondary = [\"crate\", \"crate\"]").contains("crate is named twice")
    );
    let stranger = problem_after("name = \"home\"", "name = \"home\"\nnodes = { bax = \"a:1\" }");
    assert_eq!((stranger.key.as_str(), stranger.fix.as_str()), ("node.name", "did you mean \"bax\"?"));
}

#[test]
fn a_replica_or_a_peer_vault_needs_another_node() {
    let mirror = problem_after("\"/srv/static\"", "\"/srv/static\", mirror = true");
    assert_eq!(mirror.what, "a replica needs another node, and service static has none");
    let peer = problem_after("kind = \"dir\"\npath = \"/srv/vault\"", "kind = \"peer\"");
    assert_eq!(peer.what, "vault local is held by the service's other node, and service static has none");
}

#[test]
fn two_names_for_the_vault_at_another_node_are_refused() {
    let mail_to = |holder: &str, vault: &str| {
        let text = format!(
            r#"
            [fleet]
            name = "home"
            nodes = {{ box = "a:1", crate = "b:1", chest = "c:1" }}
            [node]
            name = "box"
            [vault.one]
            kind = "peer"
            [vault.two]
            kind = "peer"
            limit = {{ up = "1MiB/s" }}
            [service.web]
            primary = "crate"
            secondary = ["box"]
            files = {{ path = "/srv/web", to = ["one"] }}
            [service.mail]
            primary = "crate"
            secondary = ["{holder}"]
            files = {{ path = "/srv/mail", to = ["{vault}"] }}
            "#
        );
        parse(&text)
    };
    let errors = mail_to("box", "two").expect_err("one vault");
    assert_eq!(
        errors.problems[0].what,
        "another vault of the kind peer leads from crate to box as well, and there is one vault there for each node"
    );
    assert!(mail_to("box", "one").is_ok(), "two services may share one");
    assert!(mail_to("chest", "two").is_ok(), "at another node there is another");
}

#[test]
fn services_that_wait_for_each_other_are_refused() {
    let text = format!(
        "{}[service.b]\nafter = [\"static\"]\nfiles = {{ path = \"/b\" }}\n",
        MINIMAL.replacen("[service.static]", "[service.static]\nafter = [\"b\"]", 1)
    );
    let errors = parse(&text).expect_err("a circle");
    assert!(errors.to_string().contains("each of these waits for the next: b, static, b"), "{errors}");
    let itself = problem_after("[service.static]", "[service.static]\nafter = [\"static\"]");
    assert_eq!(itself.kind, ProblemKind::Conflict);
}

#[test]
fn names_that_would_be_ambiguous_are_refused() {
    let command = problem_after("[service.static]", "[service.static]\ncommand.files = { run = [\"x\"] }");
    assert_eq!(command.what, "static.files is the name of the files source");
    assert_eq!(
        problem_after("[vault.local]", "[vault.replica]").what,
        "replica is the name of a target that is no vault"
    );
    assert_eq!(
        problem_after("[vault.local]", "[vault.held]").what,
        "held is what vaults are called that are held for other nodes"
    );
    assert_eq!(
        problem_after("[service.static]", "[service._fleet]").what,
        "\"_fleet\" cannot be the name of a service"
    );
}

#[test]
fn a_hook_may_ask_only_for_what_it_can_be_given() {
    let problem = problem_after(
        "[service.static]",
        "[hook]\ndns = [\"x\", \"{srvice}\", \"{\\\"a\\\": 1}\"]\n[service.static]",
    );
    assert_eq!((problem.key.as_str(), problem.fix.as_str()), ("hook.dns", "use {service} or {node}"));
    assert_eq!(
        problem_after("[service.static]", "[hook]\ndns = []\n[service.static]").what,
        "it names no program"
    );
}

#[test]
fn a_command_that_could_not_be_run_as_it_stands_is_refused() {
    let files = "files = { path = \"/srv/static\" }";
    for (keys, kind, what) in [
        ("timeout = \"21h\"", ProblemKind::BadValue, "21h is longer than a vault waits for a commit"),
        ("env = { \"A B\" = \"x\" }", ProblemKind::BadValue, "\"A B\" cannot be the name of"),
        ("env = { A = \"\\u0000\" }", ProblemKind::BadValue, "it contains a NUL character"),
        ("env = { A = 1 }", ProblemKind::WrongType, "it is a whole number"),
        (
            "env = { A = \"x\" }, secrets = { A = \"env:B\" }",
            ProblemKind::Conflict,
            "A stands in env as well",
        ),
        (
            "secrets = { A = \"hunter2\" }",
            ProblemKind::BadValue,
            "a secret must not stand in the configuration",
        ),
        ("umask = \"022\"", ProblemKind::UnknownKey, "there is no such key"),
    ] {
        let problem = problem_after(files, &format!("command.dump = {{ run = [\"x\"], {keys} }}"));
        assert_eq!(problem.kind, kind, "{problem}");
        assert!(problem.what.starts_with(what), "{problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
    let allow = format!("{files}\n[allow]\ncommand_user = \"0\"");
    assert_eq!(problem_after(files, &allow).what, "\"0\" cannot be the name of a user");
}
