//! The files of this project, and files that are wrong.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::*;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name)
}

#[test]
fn the_files_are_the_ones_that_were_checked_in() {
    let sums = fs::read_to_string(data("SHA256SUMS")).expect("the sums are checked in");
    assert_eq!(sums.lines().count(), 3);
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").expect("as sha256sum writes it");
        let bytes = fs::read(data(name)).expect("the file is checked in");
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, sum, "{name}");
        assert_eq!(&bytes[3..8], [0; 5], "{name}: neither name nor time in the gzip header");
    }
}

#[test]
fn the_sales_are_whole() {
    let mut files = Files::default();
    let names = ["online_retail_lines.csv.gz", "online_retail_products.csv.gz", "online_retail_orders.csv.gz"];
    files.add_by_header(&names.map(data)).expect("the headers tell them apart");
    assert_eq!(files.orders, [data("online_retail_orders.csv.gz")]);
    let sales = files.read().expect("the files are well formed");
    let lines = || sales.sales.iter().flat_map(|sale| &sale.lines);
    assert_eq!((sales.sales.len(), sales.passed_over), (15_829, 0));
    assert_eq!((lines().count(), sales.units.len(), sales.names.len()), (405_552, 3_841, 3_841));
    assert_eq!(sales.sales.iter().map(|sale| sale.total_minor).sum::<i64>(), 821_969_877);
    assert_eq!(sales.units.values().sum::<u64>(), 4_367_978);
    assert_eq!(sales.sales.iter().map(|sale| sale.lines.len()).max(), Some(705));
    assert_eq!(lines().map(|line| line.quantity).max(), Some(74_215));
    assert_eq!(lines().filter(|line| line.unit_price == 0).count(), 386);
    assert_eq!(sales.sales.iter().filter(|sale| sale.user.as_str().starts_with("guest-")).count(), 1_237);
    let known = |code: &str| sales.units.contains_key(&SkuId::new(code).expect("a code"));
    assert!(known("BANK CHARGES") && known("M") && known("m"), "codes are kept as they are, letter case included");
    let first = &sales.sales[0];
    assert_eq!(
        (first.order.as_str(), first.user.as_str(), first.total_minor, first.lines.len()),
        ("536365", "17850", 13_912, 7)
    );
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("a temporary file");
        path
    }
}

const ORDERS: &str = "order_id,kind,customer_id,total_minor\n1,sale,u1,30\nC2,cancellation,u1,-30\n3,sale,,0\n";
const LINES: &str = "order_id,line_no,sku,quantity,unit_price_minor\n1,1,a,2,10\n1,2,A,1,10\nC2,1,a,-2,10\n3,1,a,5,0\n";

fn read(orders: &str, lines: &str) -> Result<Sales, SalesError> {
    let folder = Folder::new();
    let (orders, lines) = (folder.file("o.csv", orders.as_bytes()), folder.file("l.csv", lines.as_bytes()));
    Files { orders: vec![orders], lines: vec![lines], products: Vec::new() }.read()
}

#[test]
fn only_sales_are_taken_and_lines_stay_as_they_are() {
    let sales = read(ORDERS, LINES).expect("well formed");
    assert_eq!((sales.sales.len(), sales.passed_over), (2, 1));
    let user = |at: usize| sales.sales[at].user.as_str();
    assert_eq!((user(0), user(1)), ("u1", "guest-3"));
    let units: Vec<_> = sales.units.iter().map(|(sku, units)| (sku.as_str(), *units)).collect();
    assert_eq!(units, [("A", 1), ("a", 7)]);
}

#[test]
fn gzip_is_told_by_content_not_by_name() {
    let folder = Folder::new();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(LINES.as_bytes()).expect("memory");
    let packed = packed.finish().expect("memory");
    let files = Files {
        orders: vec![folder.file("o.csv.gz", ORDERS.as_bytes())],
        lines: vec![folder.file("l.csv", &packed)],
        products: Vec::new(),
    };
    assert_eq!(files.read().expect("well formed"), read(ORDERS, LINES).expect("well formed"));
}

#[test]
fn a_byte_order_mark_changes_nothing() {
    let plain = read(ORDERS, LINES).expect("well formed");
    assert_eq!(read(&format!("\u{feff}{ORDERS}"), &format!("\u{feff}{LINES}")).expect("well formed"), plain);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(format!("\u{feff}{LINES}").as_bytes()).expect("memory");
    let folder = Folder::new();
    let files = Files {
        orders: vec![folder.file("o.csv", format!("\u{feff}{ORDERS}").as_bytes())],
        lines: vec![folder.file("l.csv", &packed.finish().expect("memory"))],
        products: Vec::new(),
    };
    assert_eq!(files.read().expect("well formed"), plain);
}

#[test]
fn the_kind_and_the_total_may_be_left_out() {
    let sales = read("order_id\n1\n", "order_id,sku,quantity,unit_price_minor\n1,a b,1,7\n").expect("well formed");
    assert_eq!((sales.sales[0].user.as_str(), sales.sales[0].total_minor), ("guest-1", 7));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let long = "x".repeat(300);
    for (orders, lines, said) in [
        ("order,kind\n1,sale\n", LINES, "o.csv: no column order_id"),
        ("order_id\n1\n1\n", LINES, "o.csv line 3: order 1 is listed a second time"),
        ("order_id\n\"\"\n", LINES, "o.csv line 2: order_id ``: "),
        (&format!("order_id\n{long}\n"), LINES, "o.csv line 2: order_id `xxx"),
        ("order_id,total_minor\n1,x\n", LINES, "o.csv line 2: `x` is not a valid number"),
        (ORDERS, "order_id,sku,quantity\n", "l.csv: no column unit_price_minor"),
        (ORDERS, "order_id,sku,quantity,unit_price_minor\n1,a,-1,1\n", "l.csv line 2: `-1` is not a valid number"),
        (ORDERS, "order_id,sku,quantity,unit_price_minor\n1,a,0,1\n", "l.csv line 2: a sale has quantities above zero"),
        (ORDERS, "order_id,sku,quantity,unit_price_minor\n1,a,1,-1\n", "l.csv line 2: a sale has quantities above zero"),
        (ORDERS, "order_id,sku,quantity,unit_price_minor\n1,,1,1\n", "l.csv line 2: sku ``: "),
        (ORDERS, "order_id,sku,quantity,unit_price_minor\n1,a,1\n", "l.csv line 2: 3 columns, the header has 4"),
        (
            ORDERS,
            "order_id,sku,quantity,unit_price_minor\n1,a,9223372036854775807,9\n",
            "l.csv line 2: the amount is too large",
        ),
        ("order_id\n9\n", LINES, "order 9: no file has lines of it"),
        ("order_id,total_minor\n1,31\n", LINES, "order 1: its total is 31, its lines add up to 30"),
    ] {
        let error = read(orders, lines).expect_err(said).to_string();
        assert!(error.contains(said), "{error}, not {said}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = PathBuf::from("/nowhere/orders.csv");
    let error = Files { orders: vec![missing.clone()], ..Files::default() }.read().expect_err("it is not there");
    assert!(matches!(&error, SalesError::Unreadable { path, .. } if *path == missing), "{error}");
    let folder = Folder::new();
    let odd = folder.file("odd.csv", b"a,b\n1,2\n");
    let error = Files::default().add_by_header(&[odd]).expect_err("it is none of the three").to_string();
    assert!(error.contains("neither orders nor lines nor products"), "{error}");
}
