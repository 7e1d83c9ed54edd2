//! Reads orders from CSV, plain or gzip.
//!
//! An orders file has `order_id`, and may have `kind` (only `sale` is replayed), `customer_id` and `total_minor`; a lines
//! file has `order_id`, `sku`, `quantity` and `unit_price_minor`; a products file has `sku` and `name`. Other columns are
//! passed over. Lines are taken as they are: repeats of a SKU in an order are neither folded nor sorted.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{Reader, StringRecord};
use flate2::read::MultiGzDecoder;
use ordergrid_domain::{Reference, SkuId, Text, UserId};
use thiserror::Error;

/// One order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    /// Its id in the file.
    pub order: Reference,
    /// Who bought; `guest-<order>` when the file does not say.
    pub user: UserId,
    /// Sum of quantity times price, minor units.
    pub total_minor: i64,
    /// Its lines in the order of the file.
    pub lines: Vec<SaleLine>,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleLine {
    /// What was bought; letter case counts.
    pub sku: SkuId,
    /// Units.
    pub quantity: u64,
    /// Price of one, minor units.
    pub unit_price: i64,
}

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sales {
    /// The sales in the order of the file.
    pub sales: Vec<Sale>,
    /// Units sold per SKU.
    pub units: BTreeMap<SkuId, u64>,
    /// Names of SKUs, where known.
    pub names: BTreeMap<SkuId, Text>,
    /// Orders of other kinds, passed over.
    pub passed_over: u64,
}

/// The files of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Orders.
    pub orders: Vec<PathBuf>,
    /// Lines of the orders.
    pub lines: Vec<PathBuf>,
    /// Names of SKUs.
    pub products: Vec<PathBuf>,
}

/// Why files cannot be replayed.
#[derive(Debug, Error)]
pub enum SalesError {
    /// It cannot be opened or read.
    #[error("cannot read {}: {cause}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is no table, or not the one that was expected.
    #[error("{}{}: {problem}", .path.display(), .line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: Option<u64>,
        /// What is wrong.
        problem: String,
    },
    /// The files contradict each other.
    #[error("order {order}: {problem}")]
    Contradiction {
        /// The order.
        order: String,
        /// What does not fit.
        problem: String,
    },
}

impl Files {
    /// Adds files by what is in them: the header row tells orders, lines and products apart.
    ///
    /// # Errors
    /// [`SalesError`] if one cannot be read or has none of the three headers.
    pub fn add_by_header(&mut self, paths: &[PathBuf]) -> Result<(), SalesError> {
        for path in paths {
            let mut table = Table::open(path)?;
            let header = table.header()?;
            let has = |column: &str| header.iter().any(|name| name == column);
            let list = if has("unit_price_minor") && has("quantity") && has("order_id") {
                &mut self.lines
            } else if has("order_id") {
                &mut self.orders
            } else if has("sku") && has("name") {
                &mut self.products
            } else {
                return Err(table.malformed("neither orders nor lines nor products: no column order_id, and not sku and name"));
            };
            list.push(path.clone());
        }
        Ok(())
    }

    /// Reads them all.
    ///
    /// # Errors
    /// [`SalesError`]: nothing is replayed from files that are wrong somewhere.
    pub fn read(&self) -> Result<Sales, SalesError> {
        let mut sales = Sales::default();
        let mut stated = Vec::new();
        let mut places = HashMap::new();
        for path in &self.orders {
            read_orders(path, &mut sales, &mut stated, &mut places)?;
        }
        for path in &self.lines {
            read_lines(path, &mut sales, &places)?;
        }
        for path in &self.products {
            read_products(path, &mut sales)?;
        }
        for (sale, stated) in sales.sales.iter().zip(stated) {
            let contradiction = |problem| SalesError::Contradiction { order: sale.order.as_str().to_owned(), problem };
            if sale.lines.is_empty() {
                return Err(contradiction("no file has lines of it".to_owned()));
            }
            if stated.is_some_and(|total| total != sale.total_minor) {
                let (stated, sum) = (stated.unwrap_or_default(), sale.total_minor);
                return Err(contradiction(format!("its total is {stated}, its lines add up to {sum}")));
            }
        }
        Ok(sales)
    }
}

type Places = HashMap<String, usize>;

fn read_orders(path: &Path, sales: &mut Sales, stated: &mut Vec<Option<i64>>, places: &mut Places) -> Result<(), SalesError> {
    let mut table = Table::open(path)?;
    let order_id = table.column("order_id")?;
    let (kind, customer_id) = (table.optional_column("kind")?, table.optional_column("customer_id")?);
    let total_minor = table.optional_column("total_minor")?;
    while table.next()? {
        if kind.is_some_and(|kind| table.cell(kind) != "sale") {
            sales.passed_over += 1;
            continue;
        }
        let name = table.cell(order_id);
        let order = Reference::new(name).map_err(|error| table.malformed(&format!("order_id `{name}`: {error}")))?;
        if places.insert(name.to_owned(), sales.sales.len()).is_some() {
            return Err(table.malformed(&format!("order {name} is listed a second time")));
        }
        let customer = match customer_id.map_or("", |column| table.cell(column)) {
            "" => format!("guest-{name}"),
            customer => customer.to_owned(),
        };
        let user = UserId::new(&customer).map_err(|error| table.malformed(&format!("customer_id `{customer}`: {error}")))?;
        stated.push(total_minor.map(|column| table.number(column)).transpose()?);
        sales.sales.push(Sale { order, user, total_minor: 0, lines: Vec::new() });
    }
    Ok(())
}

fn read_lines(path: &Path, sales: &mut Sales, places: &Places) -> Result<(), SalesError> {
    let mut table = Table::open(path)?;
    let (order_id, sku) = (table.column("order_id")?, table.column("sku")?);
    let (quantity, unit_price) = (table.column("quantity")?, table.column("unit_price_minor")?);
    let mut known: HashMap<String, SkuId> = HashMap::new();
    while table.next()? {
        // Lines of orders of other kinds.
        let Some(place) = places.get(table.cell(order_id)) else { continue };
        let code = table.cell(sku);
        let sku = match known.get(code) {
            Some(sku) => sku.clone(),
            None => {
                let sku = SkuId::new(code).map_err(|error| table.malformed(&format!("sku `{code}`: {error}")))?;
                known.insert(code.to_owned(), sku.clone());
                sku
            }
        };
        let units: u64 = table.number(quantity)?;
        let price: i64 = table.number(unit_price)?;
        if units == 0 || price < 0 {
            return Err(table.malformed("a sale has quantities above zero and prices not below"));
        }
        let too_much = || table.malformed("the amount is too large");
        let line_total = i64::try_from(units).ok().and_then(|units| units.checked_mul(price)).ok_or_else(too_much)?;
        let sale = &mut sales.sales[*place];
        sale.total_minor = sale.total_minor.checked_add(line_total).ok_or_else(too_much)?;
        *sales.units.entry(sku.clone()).or_default() += units;
        sale.lines.push(SaleLine { sku, quantity: units, unit_price: price });
    }
    Ok(())
}

fn read_products(path: &Path, sales: &mut Sales) -> Result<(), SalesError> {
    let mut table = Table::open(path)?;
    let (sku, name) = (table.column("sku")?, table.column("name")?);
    while table.next()? {
        let (Ok(sku), Ok(name)) = (SkuId::new(table.cell(sku)), Text::new(table.cell(name))) else { continue };
        if !name.as_str().is_empty() {
            sales.names.insert(sku, name);
        }
    }
    Ok(())
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// A CSV file and the row that is being looked at.
struct Table {
    path: PathBuf,
    reader: Reader<Box<dyn Read>>,
    row: StringRecord,
}

impl Table {
    fn open(path: &Path) -> Result<Self, SalesError> {
        let unreadable = |cause| SalesError::Unreadable { path: path.to_owned(), cause };
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        let start = read_up_to(&mut file, 2).map_err(unreadable)?;
        // By content, not by name: a renamed file is still what it is.
        let packed = start == [0x1f, 0x8b];
        let whole = io::Cursor::new(start).chain(file);
        let mut bytes: Box<dyn Read> =
            if packed { Box::new(BufReader::new(MultiGzDecoder::new(whole))) } else { Box::new(whole) };
        // Spreadsheets write a byte order mark. The CSV reader skips one only if it comes with the first read.
        let start = read_up_to(&mut bytes, BYTE_ORDER_MARK.len()).map_err(unreadable)?;
        let start = if start == BYTE_ORDER_MARK { Vec::new() } else { start };
        let bytes: Box<dyn Read> = Box::new(io::Cursor::new(start).chain(bytes));
        Ok(Self { path: path.to_owned(), reader: Reader::from_reader(bytes), row: StringRecord::new() })
    }

    fn header(&mut self) -> Result<StringRecord, SalesError> {
        self.reader.headers().cloned().map_err(|error| self.wrong(error))
    }

    fn optional_column(&mut self, name: &str) -> Result<Option<usize>, SalesError> {
        Ok(self.header()?.iter().position(|column| column == name))
    }

    fn column(&mut self, name: &str) -> Result<usize, SalesError> {
        self.optional_column(name)?.ok_or_else(|| self.malformed(&format!("no column {name}")))
    }

    /// Goes to the next row; false at the end.
    fn next(&mut self) -> Result<bool, SalesError> {
        let mut row = std::mem::take(&mut self.row);
        let read = self.reader.read_record(&mut row);
        self.row = row;
        read.map_err(|error| self.wrong(error))
    }

    fn cell(&self, column: usize) -> &str {
        self.row.get(column).unwrap_or_default()
    }

    fn number<N: std::str::FromStr>(&self, column: usize) -> Result<N, SalesError> {
        let text = self.cell(column);
        text.parse().map_err(|_| self.malformed(&format!("`{text}` is not a valid number")))
    }

    fn malformed(&self, problem: &str) -> SalesError {
        let line = self.row.position().map(csv::Position::line);
        SalesError::Malformed { path: self.path.clone(), line, problem: problem.to_owned() }
    }

    fn wrong(&self, error: csv::Error) -> SalesError {
        let path = self.path.clone();
        let line = error.position().map(csv::Position::line);
        match error.into_kind() {
            csv::ErrorKind::Io(cause) => SalesError::Unreadable { path, cause },
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                SalesError::Malformed { path, line, problem: format!("{len} columns, the header has {expected_len}") }
            }
            _ => SalesError::Malformed { path, line, problem: "not UTF-8".to_owned() },
        }
    }
}

/// The first bytes, fewer where there are no more.
fn read_up_to(from: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(most);
    from.take(most as u64).read_to_end(&mut start)?;
    Ok(start)
}

#[cfg(test)]
mod tests;
