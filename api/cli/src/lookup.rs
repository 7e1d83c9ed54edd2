//! `order get` and `sku get`.

use clap::Subcommand;
use ordergrid_api::client::Call;
use ordergrid_api::wire::{Order, Sku, StatusHistory, Stock, WireText};
use ordergrid_domain::{OrderId, SkuId};

use super::table::{Align, Table};
use crate::context::{Context, Ended};
use crate::exit::Exit;
use crate::units;

/// Verbs about orders.
#[derive(Clone, Debug, Subcommand)]
pub enum OrderCommand {
    /// Show an order
    Get {
        /// Its id
        #[arg(value_parser = id::<OrderId>)]
        order: OrderId,
        /// Show what happened to it instead
        #[arg(long)]
        history: bool,
    },
}

/// Verbs about SKUs.
#[derive(Clone, Debug, Subcommand)]
pub enum SkuCommand {
    /// Show a SKU and its stock
    Get {
        /// Its id; letter case counts
        #[arg(value_parser = id::<SkuId>)]
        sku: SkuId,
    },
}

/// Reads an id with the checks that the API makes.
fn id<T: WireText>(text: &str) -> Result<T, String> {
    T::read(text)
}

/// Runs `order …`.
pub(super) async fn order(command: &OrderCommand, context: &Context<'_>) -> Ended {
    let OrderCommand::Get { order, history } = command;
    let call = if *history { Call::status_history(*order) } else { Call::order(*order) };
    let Some(answer) = context.ask(&call).await? else { return Ok(Exit::Done) };
    if *history {
        let read = answer.clone().read::<StatusHistory>()?.value;
        context.show(&answer, || history_table(&read, context));
    } else {
        let read = answer.clone().read::<Order>()?.value;
        context.show(&answer, || order_table(&read, context));
    }
    Ok(Exit::Done)
}

/// Runs `sku …`.
pub(super) async fn sku(command: &SkuCommand, context: &Context<'_>) -> Ended {
    let SkuCommand::Get { sku } = command;
    let Some(answer) = context.ask(&Call::sku(sku)).await? else { return Ok(Exit::Done) };
    let read = answer.clone().read::<Sku>()?.value;
    context.show(&answer, || sku_table(&read, context));
    Ok(Exit::Done)
}

fn word(value: &impl WireText) -> String {
    value.write(str::to_owned)
}

fn order_table(order: &Order, context: &Context<'_>) -> String {
    let paint = context.screen.paint();
    let currency = word(&order.currency);
    let mut text = format!(
        "{}  {}  {}  user {}  {} {currency}  captured {}  refunded {}  placed {}\n",
        paint.bold(&format!("ORDER {}", order.id)),
        word(&order.status),
        word(&order.payment_status),
        order.user_id.as_str(),
        units::amount(order.total),
        units::amount(order.captured),
        units::amount(order.refunded),
        word(&order.created_at),
    );
    if let Some(due) = &order.payment_due_at {
        text += &format!("payment due {}\n", word(due));
    }
    let columns = ["ORDERED", "HELD", "PICKING", "SHIPPED", "DELIVERED", "CANCELLED"].map(|name| (name, Align::Right));
    let mut lines = Table::new(
        &[&[("LINE", Align::Right), ("SKU", Align::Left), ("PRICE", Align::Right)], &columns[..], &[("NAME", Align::Left)]]
            .concat(),
    );
    for line in &order.lines {
        let numbers = [line.ordered, line.held, line.picking, line.shipped, line.delivered, line.cancelled];
        let first = [line.line.to_string(), line.sku.as_str().to_owned(), units::amount(line.unit_price)];
        lines.row(first.into_iter().chain(numbers.map(units::count)).chain([line.name.as_str().to_owned()]));
    }
    text += &lines.text(paint);
    if !order.fulfilments.is_empty() {
        let mut parcels = Table::new(&[("FULFILMENT", Align::Left), ("STATUS", Align::Left), ("UNITS", Align::Right)]);
        for parcel in &order.fulfilments {
            let sum = parcel.lines.iter().map(|part| part.quantity).sum();
            parcels.row([word(&parcel.id), word(&parcel.status), units::count(sum)]);
        }
        text += &parcels.text(paint);
    }
    text
}

fn history_table(history: &StatusHistory, context: &Context<'_>) -> String {
    let columns = ["NO", "AT", "EVENT", "FROM", "TO", "WHO", "REASON"];
    let mut table = Table::new(&columns.map(|name| (name, if name == "NO" { Align::Right } else { Align::Left })));
    for entry in &history.history {
        table.row([
            entry.number.to_string(),
            word(&entry.at),
            entry.event.clone(),
            entry.from.as_ref().map(word).unwrap_or_default(),
            word(&entry.to),
            word(&entry.operator),
            entry.reason.as_ref().map(word).unwrap_or_default(),
        ]);
    }
    table.text(context.screen.paint())
}

fn sku_table(sku: &Sku, context: &Context<'_>) -> String {
    let paint = context.screen.paint();
    let columns = ["AVAILABLE", "ON HAND", "RESERVED", "COMMITTED", "UNAVAILABLE", "RECEIVED", "SOLD"];
    let mut table = Table::new(&[&[("WAREHOUSE", Align::Left)], &columns.map(|name| (name, Align::Right))[..]].concat());
    let row = |name: &str, stock: &Stock| {
        let buckets =
            [stock.available, stock.on_hand, stock.reserved, stock.committed, stock.unavailable, stock.received, stock.sold];
        [name.to_owned()].into_iter().chain(buckets.map(units::count)).collect::<Vec<_>>()
    };
    for warehouse in &sku.warehouses {
        table.row(row(warehouse.warehouse.as_str(), &warehouse.stock));
    }
    if sku.warehouses.len() != 1 {
        table.row(row("total", &sku.stock));
    }
    let title = paint.bold(&format!("SKU {}", sku.id.as_str()));
    format!("{title}  {}  version {}  index {}\n{}", sku.name.as_str(), sku.version, sku.index, table.text(paint))
}
