//! The one table that is printed, and the medians in it.
//!
//! A target is shown beside its figure and never judged: figures of another machine or a busy
//! minute are not failures. Not here: how anything is measured.

use std::fmt;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table as Grid, presets};

use crate::loader::Report;

/// What one scenario measured, or the median of several rounds of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Calls ended a second.
    pub(crate) rate: Option<f64>,
    /// Latency that half of the calls stay below.
    pub(crate) p50: Option<Duration>,
    /// Latency that 99 of 100 calls stay below.
    pub(crate) p99: Option<Duration>,
    /// Processor time of the server for a call.
    pub(crate) server_cpu: Option<Duration>,
    /// Processor time of the loader for a call.
    pub(crate) loader_cpu: Option<Duration>,
}

impl Figures {
    /// Half and 99 of 100 of sorted times.
    pub(crate) fn of_times(sorted: &[Duration]) -> Self {
        let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len() - 1));
        Self { p50: at(50).copied(), p99: at(99).copied(), ..Self::default() }
    }

    /// The median of each figure.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        Self {
            rate: median(rounds.iter().filter_map(|round| round.rate).collect()),
            p50: median(rounds.iter().filter_map(|round| round.p50).collect()),
            p99: median(rounds.iter().filter_map(|round| round.p99).collect()),
            server_cpu: median(rounds.iter().filter_map(|round| round.server_cpu).collect()),
            loader_cpu: median(rounds.iter().filter_map(|round| round.loader_cpu).collect()),
        }
    }

    /// The time a call takes when calls never wait for the caller.
    pub(crate) fn cost(&self) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64(1.0 / rate))
    }
}

impl From<&Report> for Figures {
    fn from(report: &Report) -> Self {
        let at = |share| Some(Duration::from_nanos(report.latency.value_at_quantile(share)));
        Self {
            rate: Some(report.rate),
            p50: at(0.5),
            p99: at(0.99),
            server_cpu: report.server_cpu,
            loader_cpu: report.loader_cpu,
        }
    }
}

/// Rows in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Table {
    grid: Grid,
}

impl Table {
    /// A table with its head.
    pub(crate) fn new() -> Self {
        let mut grid = Grid::new();
        grid.load_style(presets::ASCII_MARKDOWN);
        grid.set_header(["what", "a second", "p50", "p99", "server µs", "loader µs", "note"]);
        for column in grid.column_iter_mut().skip(1).take(5) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Self { grid }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, what: impl fmt::Display, figures: &Figures, note: &str) {
        let micros = |time: Option<Duration>| {
            time.map_or_else(String::new, |time| format!("{:.1}", time.as_secs_f64() * 1e6))
        };
        let time = |time: Option<Duration>| time.map_or_else(String::new, show_time);
        self.grid.add_row([
            Cell::new(what),
            Cell::new(figures.rate.map_or_else(String::new, |rate| thousands(rate as u64))),
            Cell::new(time(figures.p50)),
            Cell::new(time(figures.p99)),
            Cell::new(micros(figures.server_cpu)),
            Cell::new(micros(figures.loader_cpu)),
            Cell::new(note),
        ]);
    }

    /// Adds a row that has only a note.
    pub(crate) fn note(&mut self, what: impl fmt::Display, note: &str) {
        self.add(what, &Figures::default(), note);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.grid.fmt(formatter)
    }
}

/// A time with the unit that suits it.
pub(crate) fn show_time(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match time.as_micros() {
        0..1_000 => format!("{:.0} µs", millis * 1e3),
        1_000..100_000 => format!("{millis:.2} ms"),
        _ => format!("{millis:.0} ms"),
    }
}

/// A number with its thousands set apart.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Bytes, in mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// How many times one rate is of another.
pub(crate) fn ratio(one: &Figures, other: &Figures) -> f64 {
    one.rate.zip(other.rate).map_or(f64::NAN, |(one, other)| one / other)
}

fn median<V: PartialOrd + Copy>(mut values: Vec<V>) -> Option<V> {
    values.sort_unstable_by(|one, other| one.partial_cmp(other).expect("figures are numbers"));
    values.get(values.len() / 2).copied()
}
