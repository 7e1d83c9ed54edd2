//! Every refusal that a client can cause: its status and code, that it is a problem as RFC 9457 has it, and that it changed
//! nothing. (Authentication and rate limits do not exist yet; refusals of an ailing cluster are in `crash`.)

use anyhow::{Context, Result};
use hyper::Method;
use ordergrid_tests::{Dev, Grid, Http, Reply, Shop, captured, id};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request that must be refused.
struct Row {
    status: u16,
    code: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Row {
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without_key(mut self) -> Self {
        self.headers.retain(|(name, _)| *name != "Idempotency-Key");
        self
    }

    async fn ask(&self, http: &mut Http) -> Result<Reply> {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        http.send(self.method.clone(), &self.path, &headers, self.body.clone()).await
    }
}

fn row(status: u16, code: &'static str, method: Method, path: impl Into<String>, body: impl ToString) -> Row {
    Row { status, code, method, path: path.into(), headers: Vec::new(), body: body.to_string() }
}

fn post(status: u16, code: &'static str, path: impl Into<String>, body: impl ToString) -> Row {
    row(status, code, Method::POST, path, body).header("Idempotency-Key", &Shop::key())
}

fn get(status: u16, code: &'static str, path: impl Into<String>) -> Row {
    row(status, code, Method::GET, path, "")
}

/// What the shop holds before anything is refused.
struct World {
    dev: Dev,
    shop: Shop,
    /// Placed, not paid: 2 of A at 100 pence.
    pending: String,
    /// Paid: 3 of A at 100 pence.
    paid: String,
    /// Paid and picked: 1 of A at 100 pence.
    picked: String,
    parcel: String,
    /// Paid, shipped, and 40 pence refunded.
    shipped: String,
}

const ORDERS: &str = "/v1/orders";

impl World {
    async fn new() -> Result<Self> {
        let dev = Dev::start(1)?;
        let mut shop = Shop::open(&dev.urls()[0], "user").await?;
        shop.stock("A", 20).await?;
        let mut body = shop.order_of("A", 2, 100);
        body["reference"] = json!("taken");
        let pending = id(&shop.http.post(ORDERS, "used", &body).await?.expect(201)?)?;
        let paid = Self::paid(&mut shop, 3, "pi_paid").await?;
        let picked = Self::paid(&mut shop, 1, "pi_picked").await?;
        let parcel = shop.pick(&picked).await?;
        let shipped = Self::paid(&mut shop, 1, "pi_shipped").await?;
        let gone = shop.pick(&shipped).await?;
        shop.parcel(&gone, "ship").await?.expect(200)?;
        let refunded = shop.command(&shipped, "refunds", &json!({"amount": 40})).await?.expect(201)?;
        let refund = refunded["created"].as_str().with_context(|| format!("no refund in {refunded}"))?.to_owned();
        let outcome = format!("refunds/{refund}");
        shop.command(&shipped, &outcome, &json!({"status": "succeeded"})).await?.expect(200)?;
        ordergrid_tests::until("the SKU has heard of everything", async || {
            let stock = shop.sku("A").await?["stock"].clone();
            let settled = (&stock["reserved"], &stock["committed"], &stock["sold"]) == (&json!(2), &json!(4), &json!(1));
            Ok(settled.then_some(()))
        })
        .await?;
        Ok(Self { dev, shop, pending, paid, picked, parcel, shipped })
    }

    async fn paid(shop: &mut Shop, units: u64, payment: &str) -> Result<String> {
        let order = id(&shop.place("A", units, 100).await?)?;
        shop.pay(&order, payment, 100 * i64::try_from(units)?).await?.expect(201)?;
        Ok(order)
    }

    /// Everything that could have changed.
    async fn seen(&mut self) -> Result<Vec<Value>> {
        let mut seen = vec![self.shop.http.get("/v1/users/user/orders").await?.expect(200)?];
        for order in [&self.pending, &self.paid, &self.picked, &self.shipped] {
            seen.push(self.shop.http.get(&format!("{ORDERS}/{order}")).await?.expect(200)?);
            seen.push(self.shop.http.get(&format!("{ORDERS}/{order}/status-history")).await?.expect(200)?);
        }
        let mut sku = self.shop.sku("A").await?;
        // The index says how far the log is, and the version counts holds, also those that were given back.
        let members = sku.as_object_mut().context("a SKU is an object")?;
        members.retain(|name, _| name != "index" && name != "version");
        seen.push(sku);
        seen.push(self.shop.http.get("/v1/skus/NEW").await?.json()?["code"].clone());
        Ok(seen)
    }

    async fn refuses(mut self, rows: Vec<Row>) -> Result<()> {
        let before = self.seen().await?;
        let mut wrong = Vec::new();
        for row in rows {
            // Each on its own connection: a refusal may close it.
            let reply = row.ask(&mut Http::connect(&self.dev.urls()[0]).await?).await?;
            if let Err(error) = check(&reply, &row) {
                wrong.push(format!("{} {} {:.200}\n    {error}", row.method, row.path, row.body));
            }
            // What an order had held before it was refused is given back a moment after the answer.
            let given_back = async || Ok((self.seen().await? == before).then_some(()));
            let what = format!("nothing changed by {} {} {:.200}", row.method, row.path, row.body);
            ordergrid_tests::until(&what, given_back).await?;
        }
        assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
        self.dev.cli()?.verify()?;
        Ok(())
    }
}

/// The answer is the problem that the row expects, whole and well-formed.
fn check(reply: &Reply, row: &Row) -> Result<()> {
    let verdict = reply.verdict();
    anyhow::ensure!(verdict == (row.status, row.code.to_owned()), "should be {} {}: {}", row.status, row.code, reply.text());
    let content = reply.header("content-type");
    anyhow::ensure!(content == Some("application/problem+json"), "the content type is {content:?}");
    let problem = reply.json()?;
    for member in ["type", "title", "detail", "request_id"] {
        anyhow::ensure!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "no {member} in {problem}");
    }
    let fixed = (problem["status"].as_u64(), problem["outcome"].as_str(), problem["retryable"].as_bool());
    // Of what is refused here only a state that passes by itself is answered 503.
    let passes = row.status == 503;
    anyhow::ensure!(fixed == (Some(row.status.into()), Some("refused"), Some(passes)), "{problem}");
    Ok(())
}

/// The smallest order, with something put into it or over it.
fn order_with(name: &str, value: Value) -> Value {
    let mut order = json!({"user_id": "user", "currency": "GBP", "lines": [line_with("quantity", json!(1))]});
    order[name] = value;
    order
}

fn line_with(name: &str, value: Value) -> Value {
    let mut line = json!({"sku": "A", "quantity": 1, "unit_price": 100});
    line[name] = value;
    line
}

fn without(mut body: Value, name: &str) -> Value {
    body.as_object_mut().expect("bodies are objects").remove(name);
    body
}

fn lines(line: Value) -> Value {
    order_with("lines", json!([line]))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read() -> Result<()> {
    let world = World::new().await?;
    let good = order_with("user_id", json!("user"));
    let (order, sku) = (format!("{ORDERS}/{}", world.pending), "/v1/skus/A");
    let cancel = json!({"reason": "user"});
    let rows = vec![
        post(400, "malformed_json", ORDERS, "{"),
        post(400, "malformed_json", ORDERS, "not JSON"),
        post(400, "malformed_json", ORDERS, format!("{good} {good}")),
        post(400, "unknown_field", ORDERS, order_with("colour", json!("red"))),
        post(400, "unknown_field", ORDERS, lines(line_with("colour", json!("red")))),
        post(400, "duplicate_field", ORDERS, r#"{"user_id":"user","user_id":"user","currency":"GBP","lines":[]}"#),
        post(400, "unknown_field", format!("{order}/cancel"), json!({"reason": "user", "resaon": "user"})),
        post(400, "unknown_field", format!("{sku}/receive"), json!({"quantity": 1, "qty": 2})),
        post(400, "unknown_parameter", format!("{ORDERS}?colour=red"), &good),
        post(400, "missing_idempotency_key", ORDERS, &good).without_key(),
        post(400, "missing_idempotency_key", format!("{order}/cancel"), &cancel).without_key(),
        post(400, "missing_idempotency_key", format!("{order}/payments"), captured("pi", 200)).without_key(),
        post(400, "missing_idempotency_key", format!("{sku}/receive"), json!({"quantity": 1})).without_key(),
        post(400, "missing_idempotency_key", format!("{sku}/adjust"), json!({"delta": 1})).without_key(),
        post(400, "invalid_idempotency_key", ORDERS, &good).without_key().header("Idempotency-Key", &"k".repeat(256)),
        post(400, "invalid_if_match", format!("{order}/cancel"), &cancel).header("If-Match", "1"),
        get(400, "malformed_path", "/v1/skus/100%"),
        get(400, "invalid_grid_token", order.clone()).header("Grid-Token", "yesterday"),
        post(415, "unsupported_encoding", ORDERS, &good).header("Content-Encoding", "gzip"),
    ];
    world.refuses(rows).await
}

/// Says something to a node that may turn it away before it has heard the end; the answer, up to the end of its body.
async fn say(url: &str, words: &str) -> Result<String> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    // A node that has answered already may have closed; what it said is there all the same.
    let _ = stream.write_all(words.as_bytes()).await;
    let mut answer = String::new();
    while !answer.ends_with('}') {
        let mut some = [0; 4_096];
        let read = stream.read(&mut some).await?;
        anyhow::ensure!(read > 0, "the connection ended: {answer}");
        answer.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    Ok(answer)
}

/// The body is never sent: a client that is still writing when it is turned away may lose the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_before_it_is_sent() -> Result<()> {
    let dev = Dev::start(1)?;
    for (path, limit) in [(ORDERS, 1_usize << 20), ("/v1/orders/batch", 32 << 20)] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: {}\r\n\r\n", limit + 1);
        let answer = say(&dev.urls()[0], &head).await?;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"body_too_large\""), "{path}: {answer}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_and_is_wrong() -> Result<()> {
    let world = World::new().await?;
    let too_many = json!(vec![line_with("quantity", json!(1)); 1_001]);
    let metadata: Value = (0..51).map(|pair| (pair.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    let batch = json!({"orders": vec![order_with("idempotency_key", json!("k")); 1_001]});
    let sku = "/v1/skus/A";
    let rows = vec![
        post(422, "missing_field", ORDERS, without(order_with("user_id", json!("user")), "currency")),
        post(422, "missing_field", ORDERS, lines(without(line_with("sku", json!("A")), "quantity"))),
        post(422, "invalid_user_id", ORDERS, order_with("user_id", json!(""))),
        post(422, "invalid_user_id", ORDERS, order_with("user_id", json!(17))),
        post(422, "invalid_currency", ORDERS, order_with("currency", json!("pounds"))),
        post(422, "invalid_lines", ORDERS, order_with("lines", json!([]))),
        post(422, "too_many_lines", ORDERS, order_with("lines", too_many)),
        post(422, "invalid_sku", ORDERS, lines(line_with("sku", json!("")))),
        post(422, "invalid_quantity", ORDERS, lines(line_with("quantity", json!(0)))),
        post(422, "invalid_quantity", ORDERS, lines(line_with("quantity", json!(-1)))),
        post(422, "invalid_quantity", ORDERS, lines(line_with("quantity", json!(1.5)))),
        post(422, "invalid_quantity", ORDERS, lines(line_with("quantity", json!(1_000_000_001)))),
        post(422, "invalid_unit_price", ORDERS, lines(line_with("unit_price", json!(-1)))),
        post(422, "invalid_discount", ORDERS, lines(line_with("discount", json!(101)))),
        post(422, "invalid_tax", ORDERS, lines(line_with("tax", json!(-1)))),
        post(422, "invalid_shipping_fee", ORDERS, order_with("shipping_fee", json!(-1))),
        post(422, "invalid_terms", ORDERS, order_with("terms", json!("some day"))),
        post(422, "invalid_payment_window", ORDERS, order_with("payment_window_seconds", json!(0))),
        post(422, "invalid_payment_window", ORDERS, order_with("payment_window_seconds", json!(2_592_001))),
        post(422, "invalid_metadata", ORDERS, order_with("metadata", metadata)),
        post(422, "total_mismatch", ORDERS, order_with("total", json!(101))),
        post(422, "idempotency_key_reused", ORDERS, order_with("user_id", json!("user")))
            .without_key()
            .header("Idempotency-Key", "used"),
        post(422, "too_many_orders", "/v1/orders/batch", batch),
        post(422, "invalid_orders", "/v1/orders/batch", json!({"orders": []})),
        row(422, "unsupported", Method::PUT, "/v1/skus/NEW", json!({"name": "x", "backorder_limit": 5})),
        row(422, "missing_field", Method::PUT, "/v1/skus/NEW", json!({})),
        post(422, "invalid_quantity", format!("{sku}/receive"), json!({"quantity": 0})),
        post(422, "invalid_delta", format!("{sku}/adjust"), json!({"delta": 0})),
        post(422, "unsupported", format!("{sku}/receive"), json!({"quantity": 1, "warehouse": "north"})),
        get(422, "invalid_status", "/v1/users/user/orders?status=lost"),
        get(422, "invalid_size", "/v1/users/user/orders?size=1000000"),
        get(422, "invalid_page", "/v1/users/user/orders?page=0"),
    ];
    world.refuses(rows).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_a_command() -> Result<()> {
    let world = World::new().await?;
    let pending = |verb: &str| format!("{ORDERS}/{}/{verb}", world.pending);
    let paid = |verb: &str| format!("{ORDERS}/{}/{verb}", world.paid);
    let payment = |name: &str, value: Value| {
        let mut payment = captured("pi_new", 200);
        payment[name] = value;
        payment
    };
    let pick = |line: u32, quantity: u64| json!({"lines": [{"line": line, "quantity": quantity}]});
    let rows = vec![
        post(422, "invalid_amount", pending("payments"), payment("amount", json!(0))),
        post(422, "invalid_amount", pending("payments"), payment("amount", json!(-5))),
        post(422, "invalid_status", pending("payments"), payment("status", json!("promised"))),
        post(422, "wrong_currency", pending("payments"), payment("currency", json!("EUR"))),
        post(422, "invalid_provider_payment_id", pending("payments"), payment("provider_payment_id", json!(""))),
        post(422, "invalid_reason", pending("cancel"), json!({"reason": "timeout"})),
        post(422, "missing_field", pending("cancel"), json!({})),
        post(422, "no_such_line", pending("cancel"), json!({"reason": "user", "lines": [{"line": 2, "quantity": 1}]})),
        post(422, "invalid_lines", pending("cancel"), json!({"reason": "user", "lines": []})),
        post(422, "no_such_line", paid("fulfilments"), pick(2, 1)),
        post(422, "invalid_line", paid("fulfilments"), pick(0, 1)),
        post(422, "invalid_quantity", paid("fulfilments"), pick(1, 0)),
        post(422, "missing_field", paid("refunds"), json!({})),
        post(422, "invalid_amount", paid("refunds"), json!({"amount": 0})),
    ];
    world.refuses(rows).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() -> Result<()> {
    let world = World::new().await?;
    let order = format!("{ORDERS}/{}", world.pending);
    let rows = vec![
        get(404, "no_such_route", "/v1/nothing"),
        row(405, "method_not_allowed", Method::DELETE, order.clone(), ""),
        get(404, "no_such_order", format!("{ORDERS}/1")),
        get(404, "no_such_order", format!("{ORDERS}/none")),
        get(404, "no_such_order", format!("{ORDERS}/1/status-history")),
        post(404, "no_such_order", format!("{ORDERS}/1/cancel"), json!({"reason": "user"})),
        post(404, "no_such_order", format!("{ORDERS}/1/payments"), captured("pi", 1)),
        get(404, "no_such_sku", "/v1/skus/NEW"),
        // Letter case counts.
        get(404, "no_such_sku", "/v1/skus/a"),
        post(404, "no_such_sku", "/v1/skus/NEW/receive", json!({"quantity": 1})),
        post(404, "no_such_sku", "/v1/skus/NEW/adjust", json!({"delta": 1})),
        post(404, "no_such_sku", ORDERS, lines(line_with("sku", json!("NEW")))),
        post(404, "no_such_fulfilment", "/v1/fulfilments/none/ship", "{}"),
        post(404, "no_such_fulfilment", format!("/v1/fulfilments/{}-9/ship", world.picked), "{}"),
        post(404, "no_such_refund", format!("{ORDERS}/{}/refunds/none", world.shipped), json!({"status": "failed"})),
    ];
    world.refuses(rows).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_possible_now() -> Result<()> {
    let world = World::new().await?;
    let of = |order: &str, verb: &str| format!("{ORDERS}/{order}/{verb}");
    let World { pending, paid, picked, shipped, parcel, .. } = &world;
    let everything = json!({});
    let cancel = json!({"reason": "user"});
    let seen = Http::connect(&world.dev.urls()[0]).await?.get(&format!("{ORDERS}/{pending}")).await?;
    let token = seen.header("grid-token").context("a token")?;
    let shard = token.split(':').next().context("a shard")?;
    let smaller = json!({"provider_payment_id": "pi_paid", "status": "captured", "amount": 299, "currency": "GBP"});
    let rows = vec![
        post(409, "out_of_stock", ORDERS, lines(line_with("quantity", json!(1_000)))),
        post(409, "reference_taken", ORDERS, order_with("reference", json!("taken"))),
        post(409, "wrong_phase", of(pending, "fulfilments"), &everything),
        post(409, "wrong_phase", of(pending, "complete"), &everything),
        post(409, "still_open", of(paid, "complete"), &everything),
        post(409, "not_enough_on_line", of(paid, "fulfilments"), json!({"lines": [{"line": 1, "quantity": 4}]})),
        post(409, "nothing_left", of(picked, "fulfilments"), &everything),
        post(409, "nothing_left", of(picked, "cancel"), &cancel),
        post(409, "nothing_left", of(shipped, "cancel"), &cancel),
        post(409, "wrong_fulfilment_state", format!("/v1/fulfilments/{parcel}/deliver"), &everything),
        post(409, "wrong_payment_state", of(paid, "payments"), &smaller),
        post(409, "refund_too_large", of(shipped, "refunds"), json!({"amount": 61})),
        post(404, "no_such_payment", of(paid, "refunds"), json!({"amount": 1, "provider_payment_id": "pi_none"})),
        post(409, "would_oversell", "/v1/skus/A/adjust", json!({"delta": -20, "reason": "damaged"})),
        post(412, "stale_version", of(pending, "cancel"), &cancel).header("If-Match", "\"99\""),
        row(412, "stale_version", Method::PUT, "/v1/skus/A", json!({"name": "again"})).header("If-None-Match", "*"),
        post(400, "invalid_if_none_match", of(pending, "cancel"), &cancel).header("If-None-Match", "*"),
        get(503, "token_ahead", format!("{ORDERS}/{pending}")).header("Grid-Token", &format!("{shard}:{}", u64::MAX)),
        get(503, "token_ahead", format!("{ORDERS}/{pending}?consistency=stale"))
            .header("Grid-Token", &format!("{shard}:{}", 1_u64 << 40)),
    ];
    world.refuses(rows).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_end_at_a_depth_and_a_cursor_goes_on() -> Result<()> {
    let grid = Grid::start_with(1, "[limits]\npage_depth = 2\n")?;
    let mut shop = Shop::open(&grid.url(1), "user").await?;
    shop.stock("A", 5).await?;
    let mut newest_first = Vec::new();
    for _ in 0..5 {
        newest_first.insert(0, id(&shop.place("A", 1, 100).await?)?);
    }
    let orders = "/v1/users/user/orders?size=1";
    let reply = shop.http.get(&format!("{orders}&page=3")).await?;
    assert_eq!(reply.verdict(), (422, "page_too_deep".to_owned()), "{}", reply.text());
    let mut cursor = reply.json()?["cursor"].as_str().map(str::to_owned);
    let mut seen = Vec::new();
    while let Some(after) = cursor {
        let page = shop.http.get(&format!("{orders}&cursor={after}")).await?.expect(200)?;
        seen.extend(page["orders"].as_array().context("a list")?.iter().map(id).collect::<Result<Vec<_>>>()?);
        cursor = page["next_cursor"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, newest_first[2..], "the orders after the last page");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_full_turns_away_and_says_for_how_long() -> Result<()> {
    let grid = Grid::start_with(1, "[limits]\nconnections = 2\n")?;
    let mut kept = [Http::connect(&grid.url(1)).await?, Http::connect(&grid.url(1)).await?];
    for connection in &mut kept {
        connection.get("/livez").await?;
    }
    let answer = say(&grid.url(1), "").await?.to_lowercase();
    assert!(answer.starts_with("http/1.1 503 ") && answer.contains("\"too_many_connections\""), "{answer}");
    assert!(answer.contains("retry-after: ") && answer.contains("\"outcome\":\"refused\""), "{answer}");
    drop(kept);
    ordergrid_tests::until("there is room again", async || {
        let head = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
        Ok(say(&grid.url(1), head).await.ok().filter(|answer| answer.starts_with("HTTP/1.1 200 ")))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_order_of_a_batch_spoils_no_other() -> Result<()> {
    let dev = Dev::start(3)?;
    let mut shop = Shop::open(&dev.urls()[1], "user").await?;
    shop.stock("A", 3).await?;
    let keyed = |key: &str, mut order: Value| {
        order["idempotency_key"] = json!(key);
        order
    };
    let batch = json!({"orders": [
        keyed("k1", lines(line_with("quantity", json!(1)))),
        keyed("k2", lines(line_with("quantity", json!(0)))),
        keyed("k3", lines(line_with("quantity", json!(9)))),
        keyed("k4", lines(line_with("sku", json!("NEW")))),
        keyed("k5", lines(line_with("quantity", json!(2)))),
    ]});
    // A batch as a whole needs no key; asked again, what was placed is answered as it was.
    for replayed in [json!(null), json!(true)] {
        let answer = shop.http.send(Method::POST, "/v1/orders/batch", &[], batch.to_string()).await?.expect(200)?;
        let results = answer["results"].as_array().context("a list")?;
        let verdicts: Vec<_> =
            results.iter().map(|result| (result["status"].as_u64(), result["error"]["code"].as_str())).collect();
        let expected = [
            (Some(201), None),
            (Some(422), Some("invalid_quantity")),
            (Some(409), Some("out_of_stock")),
            (Some(404), Some("no_such_sku")),
            (Some(201), None),
        ];
        assert_eq!(verdicts, expected, "{answer}");
        assert_eq!((&results[0]["replayed"], &results[4]["replayed"]), (&replayed, &replayed), "{answer}");
    }
    let stock = shop.sku("A").await?["stock"].clone();
    assert_eq!((&stock["reserved"], &stock["available"]), (&json!(3), &json!(0)), "{stock}");
    dev.cli()?.verify()?;
    Ok(())
}
