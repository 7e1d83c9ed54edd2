//! Figures of a bench: how people read them, and how many decimals of them a report keeps.

/// A number in three digits or so: `1.2k`, `35M`.
pub(super) fn short(number: f64) -> String {
    for (unit, name) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if number >= unit {
            let value = number / unit;
            let decimals = usize::from(value < 99.95 && (value - value.round()).abs() >= 0.05);
            return format!("{value:.decimals$}{name}");
        }
    }
    if number == 0.0 || number >= 10.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// Milliseconds in the unit that suits them.
pub(super) fn time(ms: f64) -> String {
    let (value, unit) = match ms {
        ms if ms >= 999.5 => (ms / 1e3, "s"),
        ms if ms >= 0.9995 || ms <= 0.0 => (ms, "ms"),
        ms => (ms * 1e3, "us"),
    };
    let decimals = match value {
        value if value >= 99.95 || (value - value.round()).abs() < 1e-9 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

/// At most nine decimals: what lies beyond is noise, and does not survive being written and read.
pub(super) fn nanos(number: f64) -> f64 {
    (number * 1e9).round() / 1e9
}

/// At most twelve decimals: what an order takes of a stage may be some nanoseconds.
pub(super) fn picos(seconds: f64) -> f64 {
    (seconds * 1e12).round() / 1e12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (7.0, "7"),
            (42.0, "42"),
            (999.0, "999"),
            (1_200.0, "1.2k"),
            (20_000.0, "20k"),
            (3.5e6, "3.5M"),
        ] {
            assert_eq!(short(number), text);
        }
        for (ms, text) in
            [(0.0, "0 ms"), (0.05, "50 us"), (0.1235, "124 us"), (1.5, "1.50 ms"), (10.0, "10 ms"), (1_500.0, "1.50 s")]
        {
            assert_eq!(time(ms), text);
        }
    }
}
