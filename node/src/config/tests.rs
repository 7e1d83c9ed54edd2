//! What an operator gets wrong, and what comes of what is right.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use ordergrid_cluster::GroupConfig;

use crate::config::{BootstrapConfig, BootstrapNode, MemorySplit, NodeConfig};

const ONE: &str = "[node]\nid = 1\ndata = \"/data\"\n[bootstrap]\n";

const THREE: &str = r#"
[node]
id = 2
zone = "b"
data = "/data"
[mesh]
listen = "0.0.0.0:7411"
[http]
listen = "0.0.0.0:8080"
[bootstrap]
shards = 8
[[bootstrap.nodes]]
id = 1
zone = "a"
mesh = "10.0.0.1:7411"
http = "http://10.0.0.1:7410"
[[bootstrap.nodes]]
id = 3
zone = "c"
mesh = "10.0.0.3:7411"
http = "http://10.0.0.3:7410"
[[bootstrap.nodes]]
id = 2
zone = "b"
mesh = "10.0.0.2:7411"
http = "http://10.0.0.2:7410"
"#;

fn sources(text: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Sources {
        file: Some(("grid.toml".to_owned(), text.to_owned())),
        environment: environment.iter().map(pair).collect(),
        flags: flags.iter().map(pair).collect(),
    }
}

fn load(text: &str) -> Result<NodeConfig, String> {
    sources(text, &[], &[]).load().map(|loaded| loaded.config).map_err(|wrong| wrong.to_string())
}

#[test]
fn three_lines_are_a_node() {
    let config = load(ONE).expect("the smallest file is valid");
    assert_eq!((config.id, config.name.as_str(), config.zone.as_str()), (1, "n1", "default"));
    assert_eq!(config.limits.order_body, 1 << 20);
    assert_eq!(config.memory, MemorySplit::of(1 << 30));
    let checkpoint_bytes = config.memory.dirty();
    assert_eq!(config.group, GroupConfig { checkpoint_bytes, ..GroupConfig::default() }, "the cluster's own defaults");
    let bootstrap = config.bootstrap.expect("the section is there");
    assert_eq!(bootstrap.shards, 1, "one for each node");
    assert_eq!(bootstrap.nodes.len(), 1, "this node alone");
    assert_eq!(bootstrap.nodes[0].mesh, config.mesh.advertise);
}

#[test]
fn what_is_configured_reaches_http_and_mesh() {
    let flags = [("limits.order_body", "2MiB"), ("limits.request", "3s"), ("limits.frame", "40MiB")];
    let config = sources(ONE, &[], &flags).load().expect("valid").config;
    let (serving, meshing) = (config.serving(7, config.account()), config.meshing());
    assert_eq!((serving.limits.body_bytes, serving.request_id_prefix), (2 << 20, 7));
    assert_eq!(serving.limits.grid_patience, Duration::from_secs(3));
    assert_eq!(meshing.frame_limit, 40 << 20);
}

#[test]
fn memory_is_split_and_too_little_of_it_is_refused_with_words() {
    let with = |flags: &[(&str, &str)]| sources(ONE, &[], flags).load().map(|loaded| loaded.config);
    let small = with(&[("limits.memory", "192MiB")]).expect("small, and enough");
    let usual = with(&[]).expect("valid");
    assert_eq!(usual.limits.batch_body, 32 << 20);
    assert!(small.limits.batch_body < 8 << 20 && small.limits.batch_body >= small.limits.order_body);
    assert!(small.group.checkpoint_bytes < usual.group.checkpoint_bytes / 8 && small.log_tail < usual.log_tail);
    #[rustfmt::skip]
    let refused: [(&[_], _); 4] = [
        (&[("limits.memory", "96MiB")],                                    "limits.memory: 96MiB is too little: with limits.order_body of 1MiB a node needs 192MiB"),
        (&[("limits.memory", "192MiB"), ("limits.batch_body", "32MiB")],   "limits.batch_body: 32MiB is more than the memory for requests"),
        (&[("limits.memory", "192MiB"), ("limits.order_body", "3MiB"), ("limits.requests", "8MiB")], "limits.order_body: 3MiB is more than the memory for requests"),
        (&[("limits.requests", "2GiB")],                                   "limits.requests: 2GiB is not within 64KiB and 447MiB"),
    ];
    for (flags, words) in refused {
        let wrong = with(flags).expect_err(words).to_string();
        assert!(wrong.lines().any(|line| line.starts_with(words)), "{flags:?}: {wrong}");
    }
}

#[test]
fn a_node_of_three_takes_its_addresses_from_the_bootstrap() {
    let config = load(THREE).expect("the file is valid");
    assert_eq!(config.mesh.listen, "0.0.0.0:7411");
    assert_eq!(config.mesh.advertise, "10.0.0.2:7411");
    assert_eq!(config.http.advertise.as_deref(), Some("http://10.0.0.2:7410"));
    let ids: Vec<_> = config.bootstrap.expect("the section is there").nodes.iter().map(|node| node.id).collect();
    assert_eq!(ids, [1, 2, 3], "ordered, whatever the file's order");
}

#[test]
fn what_cannot_be_read_is_named_with_its_line() {
    #[rustfmt::skip]
    let cases = [
        ("[node]\nid = 1\nnmae = \"x\"\n",                  3, "nmae"),
        ("[node]\nid = 1\n[limts]\nframe = \"1MiB\"\n",     3, "limts"),
        ("[bootstrap]\nshards = 4\nnodes = 3\n",            3, "sequence"),
        ("[[bootstrap.nodes]]\nid = 1\nzoen = \"a\"\n",     3, "zoen"),
        ("[node]\nid = \"one\"\n",                          2, "u64"),
        ("[node]\nid = -1\n",                               2, "-1"),
        ("[limits]\nframe = \"64MB\"\n",                    2, "64MB"),
        ("[limits]\nframe = -5\n",                          2, "negative"),
        ("[limits]\n\nrequest = \"10\"\n",                  3, "span"),
        ("[limits]\nrequest = 10\n",                        2, "string"),
        ("[trace]\njson = \"yes\"\n",                       2, "boolean"),
        ("[node]\nid = 1\nid = 2\n",                        3, "duplicate"),
        ("[node\nid = 1\n",                                 1, ""),
    ];
    for (text, line, word) in cases {
        let wrong = load(text).expect_err(text);
        assert!(wrong.starts_with(&format!("grid.toml, line {line}: ")), "{text}: {wrong}");
        assert!(wrong.contains(word), "{text}: {wrong}");
    }
}

#[test]
fn broken_rules_name_their_key() {
    #[rustfmt::skip]
    let cases = [
        ("node.id",                 "0",              "node.id"),
        ("node.name",               "a b",            "node.name"),
        ("node.zone",               "",               "node.zone"),
        ("mesh.listen",             "localhost",      "mesh.listen"),
        ("mesh.listen",             ":7411",          "mesh.listen"),
        ("mesh.listen",             "[::]:7411",      "mesh.advertise"),
        ("http.listen",             "0.0.0.0:8080",   "http.advertise"),
        ("http.listen",             "127.0.0.1:70000", "http.listen"),
        ("http.advertise",          "127.0.0.1:8080", "http.advertise"),
        ("http.advertise",          "http://a/b",     "http.advertise"),
        ("limits.order_lines",      "1001",           "limits.order_lines"),
        ("limits.batch_orders",     "0",              "limits.batch_orders"),
        ("limits.connection_streams", "0",            "limits.connection_streams"),
        ("limits.order_body",       "33MiB",          "limits.order_body"),
        ("limits.frame",            "32MiB",          "limits.frame"),
        ("limits.connections",      "0",              "limits.connections"),
        ("limits.memory",           "1MiB",           "limits.memory"),
        ("raft.heartbeat",          "400ms",          "raft.election_min"),
        ("raft.election_max",       "600ms",          "raft.election_max"),
        ("raft.lease_margin",       "1s",             "raft"),
        ("checkpoint.every",        "0s",             "checkpoint.every"),
        ("orders.hold_valid",       "5s",             "orders.hold_valid"),
        ("clock.leap",              "4s",             "clock.leap"),
        ("clock.leap",              "7d",             "clock.leap"),
    ];
    for (key, value, named) in cases {
        let wrong = sources(ONE, &[], &[(key, value)]).load().expect_err(key).to_string();
        assert!(wrong.lines().any(|line| line.starts_with(&format!("{named}: "))), "{key} = {value}: {wrong}");
    }
}

#[test]
fn broken_bootstraps_say_what_is_wrong() {
    #[rustfmt::skip]
    let cases = [
        ("id = 3",                       "id = 2",                       "two nodes have the id 2"),
        ("mesh = \"10.0.0.3:7411\"",     "mesh = \"10.0.0.1:7411\"",     "two nodes have the mesh address"),
        ("http = \"http://10.0.0.3:74",  "http = \"ftp://10.0.0.3:74",   "is not a URL"),
        ("id = 2\nzone = \"b\"\ndata",   "id = 4\nzone = \"b\"\ndata",   "this node, 4, is not among them"),
        ("id = 2\nzone = \"b\"\ndata",   "id = 2\nzone = \"x\"\ndata",   "node.zone: \"x\" here, \"b\" in"),
        ("shards = 8",                   "shards = 0",                   "bootstrap.shards"),
        ("shards = 8",                   "shards = 4097",                "bootstrap.shards"),
        ("id = 1\nzone",                 "id = 0\nzone",                 "ids begin at 1"),
    ];
    for (right, wrong, message) in cases {
        assert!(THREE.contains(right), "{right}");
        let answer = load(&THREE.replace(right, wrong)).expect_err(wrong);
        assert!(answer.contains(message), "{wrong}: {answer}");
    }
    let two = &THREE[..THREE.rfind("[[bootstrap.nodes]]").expect("it is there")].replace("id = 2", "id = 1");
    assert!(load(two).expect_err("two nodes").contains("name 1, 3, 5 or 7"));
}

#[test]
fn every_broken_rule_is_named_at_once() {
    let wrong = load("[limits]\nconnections = 0\n").expect_err("three rules are broken");
    let keys: Vec<_> = wrong.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(keys, ["node.id", "node.data", "limits.connections"]);
}

#[test]
fn too_little_memory_is_one_mistake() {
    for memory in ["1MiB", "128MiB", "191MiB"] {
        let wrong = sources(ONE, &[], &[("limits.memory", memory)]).load().expect_err(memory).to_string();
        let keys: Vec<_> = wrong.lines().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(keys, ["limits.memory"], "{memory}: {wrong}");
    }
}

#[test]
fn flags_stand_over_the_environment_and_that_over_the_file() {
    let text = format!("{ONE}[limits]\nconnections = 1\nframe = \"50MiB\"\nsku_in_flight = 1\n");
    let environment = [("ORDERGRID_LIMITS_CONNECTIONS", "2"), ("ORDERGRID_LIMITS_FRAME", "51MiB")];
    let flags = [("limits.connections", "3"), ("node.zone", "7"), ("trace.json", "true"), ("limits.connections", "4")];
    let config = sources(&text, &environment, &flags).load().expect("all is valid").config;
    assert_eq!(config.limits.connections, 4, "the last flag");
    assert_eq!(config.limits.frame, 51 << 20, "the environment");
    assert_eq!(config.limits.sku_in_flight, 1, "the file");
    assert_eq!(config.zone, "7", "a text that looks like a number");
    assert!(config.trace.json);
}

#[test]
fn variables_are_ours_foreign_or_wrong() {
    #[rustfmt::skip]
    let cases = [
        ("ORDERGRID_LIMITS_FRAMES",      "1",    Some("no such key in [limits]")),
        ("ORDERGRID_NODE_ID",            "one",  Some("ORDERGRID_NODE_ID: ")),
        ("ORDERGRID_LIMITS_FRAME",       "1 MB", Some("ORDERGRID_LIMITS_FRAME: ")),
        ("ORDERGRID_ENDPOINTS",          "x",    None),
        ("ORDERGRID_LOG",                "info", None),
        ("ORDERGRID_CONFIG",             "x",    None),
        ("ORDERGRID_BIN",                "x",    None),
        ("ORDERGRID_HTTP_SERVICE_HOST",  "x",    None),
        ("ORDERGRID_HTTP_PORT_7410_TCP", "x",    None),
        ("ORDERGRID_PORT",               "x",    None),
        ("PATH",                         "x",    None),
    ];
    for (variable, value, message) in cases {
        let answer = sources(ONE, &[(variable, value)], &[]).load();
        let wrong = answer.err().map(|wrong| wrong.to_string());
        assert_eq!(wrong.is_some(), message.is_some(), "{variable}: {wrong:?}");
        assert!(wrong.unwrap_or_default().contains(message.unwrap_or_default()), "{variable}");
    }
    let unknown = sources(ONE, &[], &[("limits.frames", "1")]).load().expect_err("no such key");
    assert_eq!(unknown.to_string(), "--set limits.frames: no such key");
}

#[test]
fn the_printed_configuration_is_the_same_configuration() {
    for text in [ONE, THREE] {
        let first = sources(text, &[], &[("limits.request", "1500ms")]).load().expect("valid");
        let printed = first.to_toml();
        let again = sources(&printed, &[], &[]).load().unwrap_or_else(|wrong| panic!("{wrong}\n{printed}"));
        assert_eq!(first.config, again.config, "{printed}");
        assert_eq!(printed, again.to_toml());
        assert!(printed.contains(
            "# Largest message between two nodes, the same on every node. It must have room for a whole batch.\nframe = \"64MiB\""
        ));
        let json = first.to_json().expect("settings are JSON");
        assert_eq!(json["limits"]["request"], "1500ms");
        assert_eq!(json["node"]["id"], first.config.id);
    }
}

#[test]
fn every_key_is_documented_and_can_be_set_by_its_variable() {
    let table = Table::try_from(Settings::default()).expect("settings are a table");
    let mut variables = BTreeSet::new();
    for key in KEYS {
        assert!(!key.about.is_empty() && key.about.iter().all(|line| line.len() > 10), "{}", key.path());
        assert!(variables.insert(key.variable()), "{} means two keys", key.variable());
        let default = table.get(key.section).and_then(|section| section.get(key.name));
        let text = default.map_or("1".to_owned(), |value| value.as_str().map_or(value.to_string(), str::to_owned));
        overlay(&Settings::default(), key, &text, &key.path()).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn a_configuration_is_made_without_a_file() {
    let node = |id: u64| BootstrapNode {
        id,
        name: format!("n{id}"),
        zone: format!("z{id}"),
        mesh: format!("127.0.0.1:{}", 1_000 + id),
        http: format!("http://127.0.0.1:{}", 2_000 + id),
    };
    let bootstrap = BootstrapConfig { shards: 4, nodes: vec![node(1), node(2), node(3)], moved: false };
    let config = NodeConfig::of(3, "/data", &bootstrap, &[]).expect("valid");
    assert_eq!(config.mesh.listen, "127.0.0.1:1003");
    assert_eq!(config.http.listen, "127.0.0.1:2003");
    assert_eq!((config.zone.as_str(), config.bootstrap.as_ref()), ("z3", Some(&bootstrap)));
    assert!(NodeConfig::of(4, "/data", &bootstrap, &[]).is_err(), "not one of them");
    let set = [("checkpoint.every".to_owned(), "1s".to_owned())];
    let config = NodeConfig::of(1, "/data", &bootstrap, &set).expect("valid");
    assert_eq!(config.group.checkpoint_every, Duration::from_secs(1));
}
