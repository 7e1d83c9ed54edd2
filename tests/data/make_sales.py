#!/usr/bin/env python3
"""Cuts the sales out of a prepared copy of Online Retail (see README.md).

Usage: make_sales.py SOURCE_DIR [TARGET_DIR]

SOURCE_DIR holds online_retail_{orders,lines,products}.csv.gz with every kind of order. Kept are, in the
order of the source and with every byte of a kept row unchanged: orders of kind `sale`, the lines of those
orders, and the products those lines name. The output has no timestamps, so that a second run gives the
same bytes, and the run stops if a known total does not come out.
"""

import csv
import gzip
import hashlib
import io
import pathlib
import sys


def read(path):
    """The header row and the other rows of a gzip CSV file, each as (fields, raw line)."""
    text = gzip.open(path, "rt", encoding="utf-8", newline="").read()
    raw = text.splitlines(keepends=True)
    rows = list(csv.reader(raw))
    if len(rows) != len(raw):
        sys.exit(f"{path}: a field spans several lines")
    return rows[0], raw[0], list(zip(rows[1:], raw[1:]))


def write(path, header, rows):
    """A gzip file without name or time in its header."""
    body = (header + "".join(rows)).encode("utf-8")
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, compresslevel=9, mtime=0) as packed:
        packed.write(body)
    path.write_bytes(out.getvalue())
    print(f"{hashlib.sha256(out.getvalue()).hexdigest()}  {path.name}")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source = pathlib.Path(sys.argv[1])
    target = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).parent

    columns, orders_header, rows = read(source / "online_retail_orders.csv.gz")
    order_id, kind, total = (columns.index(name) for name in ("order_id", "kind", "total_minor"))
    sales = [(fields, raw) for fields, raw in rows if fields[kind] == "sale"]
    kept_orders = {fields[order_id] for fields, _ in sales}

    columns, lines_header, rows = read(source / "online_retail_lines.csv.gz")
    line_order, sku, quantity, price = (
        columns.index(name) for name in ("order_id", "sku", "quantity", "unit_price_minor")
    )
    lines = [(fields, raw) for fields, raw in rows if fields[line_order] in kept_orders]
    kept_skus = {fields[sku] for fields, _ in lines}

    columns, products_header, rows = read(source / "online_retail_products.csv.gz")
    products = [(fields, raw) for fields, raw in rows if fields[columns.index("sku")] in kept_skus]

    facts = {
        "orders": (len(sales), 15829),
        "lines": (len(lines), 405552),
        "skus": (len(kept_skus), 3841),
        "products": (len(products), 3841),
        "units": (sum(int(fields[quantity]) for fields, _ in lines), 4367978),
        "total of the orders": (sum(int(fields[total]) for fields, _ in sales), 821969877),
        "total of the lines": (sum(int(f[quantity]) * int(f[price]) for f, _ in lines), 821969877),
    }
    for name, (found, expected) in facts.items():
        if found != expected:
            sys.exit(f"{name}: found {found}, expected {expected}")

    write(target / "online_retail_orders.csv.gz", orders_header, [raw for _, raw in sales])
    write(target / "online_retail_lines.csv.gz", lines_header, [raw for _, raw in lines])
    write(target / "online_retail_products.csv.gz", products_header, [raw for _, raw in products])


if __name__ == "__main__":
    main()
