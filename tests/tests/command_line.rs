//! What scripts rely on: exit codes, and JSON everywhere, errors included.

use anyhow::{Context, Result};
use ordergrid_tests::{Cli, Dev, Shop, id};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_ends_with_the_code_that_says_how() -> Result<()> {
    let dev = Dev::start(1)?;
    let mut shop = Shop::open(&dev.urls()[0], "user").await?;
    shop.stock("BANK CHARGES", 3).await?;
    let order = id(&shop.place("BANK CHARGES", 1, 1_500).await?)?;
    let cli = dev.cli()?;
    let nobody = Cli::new(&["http://127.0.0.1:1".to_owned()])?;
    // who is asked, the verb, its exit code, what its JSON has
    for (cli, verb, code, has) in [
        (&cli, &["order", "get", order.as_str()][..], 0, ("id", json!(order))),
        (&cli, &["sku", "get", "BANK CHARGES"], 0, ("id", json!("BANK CHARGES"))),
        (&cli, &["cluster", "status"], 0, ("health", json!("healthy"))),
        (&cli, &["cluster", "verify"], 0, ("ok", json!(true))),
        (&cli, &["sku", "get", "bank charges"], 3, ("code", json!("no_such_sku"))),
        (&cli, &["order", "get", "1"], 3, ("code", json!("no_such_order"))),
        (&cli, &["order", "fetch", "1"], 2, ("code", json!("usage"))),
        (&nobody, &["--timeout", "1s", "cluster", "status"], 7, ("code", json!("unreachable"))),
    ] {
        let ran = cli.run(verb)?;
        assert_eq!(ran.code, Some(code), "{verb:?}\n{}\n{}", ran.stdout, ran.stderr);
        // Data goes to stdout, talk to stderr; an error is talk.
        let said = if code == 0 { &ran.stdout } else { &ran.stderr };
        let json: Value = serde_json::from_str(said).with_context(|| format!("{verb:?} said: {said}"))?;
        let found = if json[has.0].is_null() { &json["error"][has.0] } else { &json[has.0] };
        assert_eq!(found, &has.1, "{verb:?}: {json}");
    }
    Ok(())
}

/// The stages of every order's way; a checkpoint, which has some of its own, need not fall into a second.
const WAY: [&str; 14] = [
    "body",
    "parse",
    "admission",
    "batch_wait",
    "pack",
    "encode",
    "log_write",
    "log_sync",
    "replicate",
    "unpack",
    "apply",
    "reply",
    "grid",
    "write",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_short_benchmark_measures_and_explains_itself() -> Result<()> {
    let dev = Dev::start(1)?;
    let cli = dev.cli()?;
    for workload in ["uniform", "hot", "cart", "lifecycle"] {
        let args = ["bench", "--workload", workload, "--skus", "50", "--connections", "4", "--duration", "1", "--profile"];
        let report = cli.ok(&args)?;
        assert_eq!(report["unknown"], 0, "{workload}: {report}");
        assert!(report["placed"].as_u64().unwrap_or_default() > 0, "{workload}: {report}");
        for figure in ["orders_per_s", "p50_ms", "p99_ms"] {
            assert!(report[figure].as_f64().is_some_and(|figure| figure > 0.0), "{workload}: {report}");
        }
        let profile = &report["profile"];
        let names = |list: &Value| -> Vec<_> {
            list.as_array().into_iter().flatten().filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect()
        };
        let (stages, cpu) = (names(&profile["stages"]), names(&profile["cpu"]));
        for stage in WAY {
            assert!(stages.iter().any(|found| found == stage), "{workload}: {stage} is not in {profile}");
        }
        for part in ["stages", "log_writer"] {
            assert!(cpu.iter().any(|found| found == part), "{workload}: {part} is not in {profile}");
        }
    }
    cli.verify()?;
    Ok(())
}
