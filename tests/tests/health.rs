//! What a grid says of itself when something is wrong: to probes, to operators, to Prometheus.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use ordergrid_tests::{Grid, Http, Shop, until};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_without_a_quorum_says_so() -> Result<()> {
    let mut grid = Grid::start_with(3, "[limits]\nrequest = \"2s\"")?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    shop.stock("A", 10).await?;
    let mut node = Http::connect(&grid.url(1)).await?;
    until("the gauge tells that it is ready", async || Ok((node.metric("ordergrid_ready").await? == 1.0).then_some(())))
        .await?;
    grid.kill(2)?;
    grid.kill(3)?;
    until("node 1 tells it of the meta group and of shards", async || {
        let told = node.get("/readyz").await?;
        let checks = told.text();
        let both = checks.contains("\"shards_led\"") && checks.contains("\"meta_group_led\"");
        Ok((told.status == 503 && both).then_some(()))
    })
    .await?;
    let said = until("no shard has a leader", async || {
        let status = grid.cli()?.run(&["cluster", "status"])?;
        let said = status.json()?;
        let shards = said["shards"].as_array().context("no shards")?;
        let none = shards.iter().all(|shard| shard["leader"].is_null());
        Ok((none && status.code == Some(7)).then_some(said))
    })
    .await?;
    assert_eq!(said["health"], "unavailable", "{said}");
    let failing = &said["nodes"][0]["failing"];
    assert!(failing.as_array().is_some_and(|checks| !checks.is_empty()), "{said}");
    until("the gauges tell it", async || {
        let (ready, led) = (node.metric("ordergrid_ready").await?, node.metric("ordergrid_shard_led").await?);
        Ok((ready == 0.0 && led == 0.0 && node.metric("ordergrid_leading").await? == 0.0).then_some(()))
    })
    .await?;

    // What a node can read by itself proves nothing: no quorum says that it has all.
    let proof = grid.cli()?.run(&["cluster", "verify"])?;
    let report = proof.json()?;
    assert_eq!((proof.code, &report["ok"]), (Some(11), &json!(false)), "{report}");
    let laws = report["laws"].as_array().context("no laws")?;
    let unjudged = |law: &Value| law["ok"] == false && law["unjudged"].as_array().is_some_and(|why| !why.is_empty());
    assert!(laws.len() > 9 && laws.iter().all(unjudged), "{report}");

    grid.start_all()?;
    until("node 1 is ready again", async || Ok((node.get("/readyz").await?.status == 200).then_some(()))).await?;
    until("the grid is whole again", async || {
        let status = grid.cli()?.run(&["cluster", "status"])?;
        let healthy = status.code == Some(0) && status.json()?["health"] == "healthy";
        Ok((healthy && grid.cli()?.run(&["cluster", "verify"])?.code == Some(0)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_away_is_not_judged() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    shop.stock("A", 10).await?;
    grid.kill(3)?;
    let away = until("the shards are led without node 3", async || {
        let ran = grid.cli()?.run(&["cluster", "verify"])?;
        let report = ran.json()?;
        let marked = report["shards"].as_array().context("no shards")?.iter().all(|shard| shard["index"] != 0);
        Ok(marked.then_some((ran.code, report)))
    })
    .await?;
    let (code, report) = away;
    assert_eq!(code, Some(11), "{report}");
    for law in report["laws"].as_array().context("no laws")? {
        let unjudged = law["law"] == "ReplicasAgree" || law["law"] == "StateWhole";
        assert_eq!((law["ok"] == true, law["violations"] == json!([])), (!unjudged, true), "{report}");
        let all_name_it = |why: &Vec<Value>| why.iter().all(|why| why.as_str().is_some_and(|why| why.contains("node 3")));
        assert!(!unjudged || law["unjudged"].as_array().is_some_and(all_name_it), "{report}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_its_grid_lives_and_is_not_ready() -> Result<()> {
    let mut grid = Grid::prepare(3, "")?;
    grid.launch(1)?;
    let mut node = Http::connect(&grid.url(1)).await?;
    assert_eq!(node.get("/livez").await?.status, 200);
    let told = node.get("/readyz").await?;
    assert_eq!((told.status.as_u16(), told.json()?["ready"].as_bool()), (503, Some(false)));
    assert_eq!(node.get("/v1/skus/A").await?.verdict(), (503, "not_ready".to_owned()));
    assert!(node.get("/metrics").await?.text().contains("ordergrid_log_syncs_total"));
    let waits_for = async |node: &mut Http, names: [bool; 2]| {
        until("it says which nodes it waits for", async || {
            let told = node.get("/readyz").await?.text();
            Ok((["n2 at ", "n3 at "].map(|name| told.contains(name)) == names).then_some(()))
        })
        .await
    };
    waits_for(&mut node, [true, true]).await?;
    grid.launch(2)?;
    waits_for(&mut node, [false, true]).await?;
    grid.launch(3)?;
    grid.ready(1)?;
    until("node 1 is ready", async || Ok((node.get("/readyz").await?.status == 200).then_some(()))).await
}

/// The family that a sample belongs to.
fn family<'a>(sample: &'a str, typed: &BTreeSet<&str>) -> &'a str {
    let name = sample.split(['{', ' ']).next().unwrap_or_default();
    let whole = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    whole.filter(|whole| typed.contains(whole)).unwrap_or(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_there_from_the_start_with_type_and_help() -> Result<()> {
    let grid = Grid::start(3)?;
    let text = Http::connect(&grid.url(1)).await?.get("/metrics").await?.text();
    let named = |what: &str| -> BTreeSet<&str> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("# ")?.strip_prefix(what)?.trim_start().split_once(' '));
        lines.map(|(name, _)| name).collect()
    };
    let (typed, helped) = (named("TYPE"), named("HELP"));
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let families: BTreeSet<_> = samples.map(|sample| family(sample, &typed)).collect();
    assert_eq!(families, typed);
    assert_eq!(families, helped);
    let expected = [
        "ordergrid_entity_restarts_total",
        "ordergrid_http_problems_total",
        "ordergrid_http_request_seconds",
        "ordergrid_leader_changes_total",
        "ordergrid_log_sync_seconds",
        "ordergrid_peer_connected",
        "ordergrid_ready",
        "ordergrid_refused_total",
        "ordergrid_replicated_bytes_total",
        "ordergrid_shard_led",
        "ordergrid_streams_stopped",
        "ordergrid_streams_stopped_total",
    ];
    for name in expected {
        assert!(families.contains(name), "{name} is not in {families:?}");
    }
    Ok(())
}
