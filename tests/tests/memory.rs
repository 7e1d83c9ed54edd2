//! Memory holds what the configuration says, whoever asks for what: read from the account that the node keeps, and from the
//! system where that is stable.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use ordergrid_tests::{Grid, Http, Shop, program, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Large orders, and readers of a page of them.
const LARGE: usize = 12;
const READERS: usize = 30;

async fn connect(grid: &Grid) -> Result<TcpStream> {
    let url = grid.url(1);
    Ok(TcpStream::connect(url.trim_start_matches("http://")).await?)
}

/// Places orders of a thousand lines, each a megabyte as an answer.
async fn place_large(shop: &mut Shop) -> Result<()> {
    let put = shop.http.put("/v1/skus/L", &json!({"name": "n".repeat(1_024)})).await?;
    ensure!(put.status.is_success(), "{}", put.text());
    shop.http.post("/v1/skus/L/receive", &Shop::key(), &json!({"quantity": 1_000_000})).await?.expect(200)?;
    let mut order = shop.order_of("L", 1, 1);
    order["lines"] = (0..1_000).map(|_| order["lines"][0].clone()).collect();
    for _ in 0..LARGE {
        let placed = shop.http.post("/v1/orders", &Shop::key(), &order).await?.expect(201)?;
        ensure!(placed["lines"].as_array().is_some_and(|lines| lines.len() == 1_000), "an order is whole");
    }
    Ok(())
}

async fn taken(http: &mut Http) -> Result<u64> {
    Ok(http.metric("ordergrid_memory_account_bytes").await? as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_much_and_reads_nothing_gets_no_more_memory_than_there_is() -> Result<()> {
    let requests = 12 << 20;
    let grid = Grid::start_with(
        1,
        "[limits]\nmemory = \"192MiB\"\nrequests = \"12MiB\"\nconnection_idle = \"2s\"\nheader_wait = \"1s\"\n",
    )?;
    let mut shop = Shop::open(&grid.url(1), "user").await?;
    place_large(&mut shop).await?;
    let page = shop.http.get("/v1/users/user/orders?size=100").await?;
    let text = page.body.len();
    let page: Value = page.expect(200)?;
    assert!(text > LARGE << 20, "{text} bytes");
    assert_eq!((page["orders"].as_array().context("a list")?.len(), &page["total"]), (LARGE, &json!(LARGE)));

    let mut silent = Vec::new();
    for _ in 0..READERS {
        let mut reader = connect(&grid).await?;
        reader.write_all(b"GET /v1/users/user/orders?size=100 HTTP/1.1\r\nhost: grid\r\n\r\n").await?;
        silent.push(reader);
    }
    let mut heads = Vec::new();
    for _ in 0..300 {
        let mut head = connect(&grid).await?;
        // The node may have closed it by now, which is what it should do.
        head.write_all(&[b"GET /livez HTTP/1.1\r\nhost: grid\r\na: ".as_slice(), &[b'x'; 60_000]].concat()).await.ok();
        heads.push(head);
    }
    let at_most = taken(&mut shop.http).await?;
    assert!(at_most > 0 && at_most <= requests, "{at_most} bytes taken");
    shop.place("L", 1, 1).await.context("who asks for little is served beside them")?;

    // All of it comes back when those that make no progress are closed.
    for mut stream in silent.into_iter().chain(heads) {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.ok();
    }
    until("the memory is given back", async || {
        // The shop's connection was idle for too long.
        let mut http = Http::connect(&grid.url(1)).await?;
        Ok((taken(&mut http).await? < 1 << 20).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_for_which_there_is_no_memory_is_refused_before_it_is_read() -> Result<()> {
    let grid = Grid::start_with(1, "[limits]\nmemory = \"192MiB\"\nrequests = \"12MiB\"\n")?;
    let mut shop = Shop::open(&grid.url(1), "user").await?;
    shop.stock("A", 1_000).await?;
    // Half of it is taken by one whose batch comes slowly.
    let mut slow = connect(&grid).await?;
    slow.write_all(b"POST /v1/orders/batch HTTP/1.1\r\nhost: grid\r\ncontent-length: 2000000\r\n\r\n").await?;
    slow.write_all(&[b' '; 1_600_000]).await?;
    until("the slow one holds memory", async || Ok((taken(&mut shop.http).await? > 6 << 20).then_some(()))).await?;
    let mut order = shop.order_of("A", 1, 100);
    order["idempotency_key"] = json!("k");
    let mut batch = json!({ "orders": [order] }).to_string();
    batch.push_str(&" ".repeat(1_500_000));
    let told = shop.http.send(Method::POST, "/v1/orders/batch", &[], batch.clone()).await?;
    assert_eq!(told.status, 503, "{}", told.text());
    assert!(told.headers.contains_key("retry-after"));
    let problem: Value = serde_json::from_slice(&told.body)?;
    assert_eq!((&problem["code"], &problem["outcome"]), (&json!("overloaded"), &json!("refused")));
    drop(slow);
    // A refusal that was given before the request was read ends its connection.
    shop.http = Http::connect(&grid.url(1)).await?;
    until("the memory is given back", async || Ok((taken(&mut shop.http).await? < 1 << 20).then_some(()))).await?;
    let told = Http::connect(&grid.url(1)).await?.send(Method::POST, "/v1/orders/batch", &[], batch).await?;
    assert_eq!(told.status, 200, "{}", told.text());
    Ok(())
}

#[test]
fn too_little_memory_is_refused_with_words() -> Result<()> {
    let grid = Grid::prepare(1, "[limits]\nmemory = \"90MiB\"\n")?;
    let ran = std::process::Command::new(program()?).args(["serve", "--check", "--config"]).arg(grid.config(1)).output()?;
    let words = String::from_utf8(ran.stderr)?;
    assert!(!ran.status.success() && words.contains("limits.memory: 90MiB is too little"), "{words}");
    Ok(())
}

/// What is asked for is a matter of seconds.
#[tokio::test(flavor = "multi_thread")]
async fn many_rows_stay_within_the_memory() -> Result<()> {
    let memory = 192;
    let grid = Grid::start_with(1, &format!("[limits]\nmemory = \"{memory}MiB\"\n[trace]\nfilter = \"warn\"\n"))?;
    let mut shop = Shop::open(&grid.url(1), "user").await?;
    shop.stock("A", 1_000_000).await?;
    for round in 0..40 {
        let order = |n: usize| {
            let mut order = shop.order_of("A", 1, 100);
            order["user_id"] = json!(format!("user-{round}-{n}"));
            order["idempotency_key"] = json!("k");
            order
        };
        let batch = json!({"orders": (0..500).map(order).collect::<Vec<_>>()}).to_string();
        let told = shop.http.send(Method::POST, "/v1/orders/batch?return=minimal", &[], batch).await?;
        ensure!(told.status == 200, "{}", told.text());
    }
    tokio::time::timeout(Duration::from_secs(10), shop.place("A", 1, 1)).await??;
    let resident = shop.http.metric("process_resident_memory_bytes").await? as u64 >> 20;
    assert!(resident < memory * 6 / 5, "{resident} MiB");
    Ok(())
}
