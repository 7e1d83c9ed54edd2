//! The real sales in `tests/data`, read without any code of the product: what must come out is counted here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;

/// Files of sales.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalesFiles {
    orders: PathBuf,
    lines: PathBuf,
}

impl SalesFiles {
    /// All sales there are.
    #[must_use]
    pub fn all() -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data");
        Self { orders: folder.join("online_retail_orders.csv.gz"), lines: folder.join("online_retail_lines.csv.gz") }
    }

    /// The first sales, in files of their own in `folder`.
    ///
    /// # Errors
    /// If they cannot be read or written.
    pub fn first(count: usize, folder: &Path) -> Result<Self> {
        let all = Self::all();
        let (orders, lines) = (text(&all.orders)?, text(&all.lines)?);
        let orders: Vec<&str> = orders.lines().take(count + 1).collect();
        let ids: BTreeSet<&str> = orders[1..].iter().map(|row| first_field(row)).collect();
        let mut rows = lines.lines();
        let header = rows.next().context("the lines have a header")?;
        let kept = [header].into_iter().chain(rows.filter(|row| ids.contains(first_field(row))));
        let made = Self { orders: folder.join("orders.csv"), lines: folder.join("lines.csv") };
        fs::write(&made.orders, orders.join("\n") + "\n")?;
        fs::write(&made.lines, kept.collect::<Vec<_>>().join("\n") + "\n")?;
        Ok(made)
    }

    /// The arguments of `replay` that name them.
    #[must_use]
    pub fn arguments(&self) -> [&str; 5] {
        let [orders, lines] = [&self.orders, &self.lines].map(|path| path.to_str().expect("our folders have plain names"));
        ["replay", "--orders", orders, "--lines", lines]
    }
}

/// Order ids have no quotes and stand first.
fn first_field(row: &str) -> &str {
    row.split(',').next().expect("a split has a first part")
}

fn text(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut text = String::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(file).read_to_string(&mut text)?;
    } else {
        BufReader::new(file).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// A sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    /// Its id in the file.
    pub id: String,
    /// What its lines come to, in pence.
    pub total: i64,
    /// Its lines, as they stand there.
    pub lines: Vec<SaleLine>,
}

/// A line of a sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleLine {
    /// What was sold; letter case counts.
    pub sku: String,
    /// How many.
    pub quantity: u64,
}

/// Sales, in the order of their placing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sales(pub Vec<Sale>);

impl Sales {
    /// The sales of the files.
    ///
    /// # Errors
    /// If the files are not what they should be.
    pub fn read(files: &SalesFiles) -> Result<Self> {
        let mut lines_of: BTreeMap<String, Vec<SaleLine>> = BTreeMap::new();
        for row in rows(&files.lines)? {
            let quantity = row["quantity"].parse()?;
            let line = SaleLine { sku: row["sku"].clone(), quantity };
            lines_of.entry(row["order_id"].clone()).or_default().push(line);
        }
        let sale = |row: BTreeMap<String, String>| -> Result<Sale> {
            let id = row["order_id"].clone();
            let lines = lines_of.remove(&id).with_context(|| format!("order {id} has no lines"))?;
            Ok(Sale { id, total: row["total_minor"].parse()?, lines })
        };
        Ok(Self(rows(&files.orders)?.into_iter().map(sale).collect::<Result<_>>()?))
    }

    /// Units sold per SKU.
    #[must_use]
    pub fn units(&self) -> BTreeMap<&str, u64> {
        let mut units = BTreeMap::new();
        for line in self.0.iter().flat_map(|sale| &sale.lines) {
            *units.entry(line.sku.as_str()).or_default() += line.quantity;
        }
        units
    }

    /// What all of them come to, in pence.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.0.iter().map(|sale| sale.total).sum()
    }
}

fn rows(path: &Path) -> Result<Vec<BTreeMap<String, String>>> {
    let text = text(path)?;
    let rows = csv::Reader::from_reader(text.as_bytes()).into_deserialize().collect::<Result<_, _>>();
    rows.with_context(|| format!("read {}", path.display()))
}
