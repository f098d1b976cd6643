//! Log lines on standard error, as text or JSON, one line for each event.
//!
//! Not here: metrics (`app`) and what is logged where (the code that knows). Nothing an agent
//! wrote can forge a line or reach the terminal as a control sequence.

use std::io::{self, Write};

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::LogFormat;
use crate::terminal::{escape_json, escape_text};

/// Libraries whose finer levels print whole headers, and so API keys, or whole requests and
/// answers; and the finest level that may still be had of them. The warnings of `rmcp` repeat what
/// a client sent, and to it a client that hangs up is an error.
const CAPPED: [(&str, LevelFilter); 4] = [
    ("h2", LevelFilter::WARN),
    ("hyper", LevelFilter::WARN),
    ("hyper_util", LevelFilter::WARN),
    ("rmcp", LevelFilter::OFF),
];

/// Installs the subscriber of the whole process.
///
/// # Errors
///
/// The filter is not one (validated configurations have none such), or a subscriber is installed
/// already.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let subscriber = tracing_subscriber::registry().with(layer(filter, format, io::stderr)?);
    subscriber.try_init().map_err(|error: TryInitError| error.into())
}

fn layer<S, W>(
    filter: &str,
    format: LogFormat,
    target: W,
) -> anyhow::Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)?.and(filter_fn(is_allowed));
    let layer = tracing_subscriber::fmt::layer().with_ansi(false);
    let writer = EscapingWriter { target, format };
    Ok(match format {
        LogFormat::Text => layer.with_writer(writer).with_filter(filter).boxed(),
        LogFormat::Json => layer.json().with_writer(writer).with_filter(filter).boxed(),
    })
}

fn is_allowed(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    let cap = CAPPED.iter().find(|(name, _)| *name == library).map(|(_, cap)| *cap);
    cap.is_none_or(|cap| *metadata.level() <= cap)
}

/// Escapes each event; the layer above hands over one whole line at a time.
struct EscapingWriter<W> {
    target: W,
    format: LogFormat,
}

struct EscapingLine<L> {
    target: L,
    format: LogFormat,
}

impl<'writer, W: MakeWriter<'writer>> MakeWriter<'writer> for EscapingWriter<W> {
    type Writer = EscapingLine<W::Writer>;

    fn make_writer(&'writer self) -> Self::Writer {
        EscapingLine { target: self.target.make_writer(), format: self.format }
    }
}

impl<L: Write> Write for EscapingLine<L> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(event);
        let line = line.strip_suffix('\n').unwrap_or(&line);
        let escaped = match self.format {
            LogFormat::Text => escape_text(line),
            LogFormat::Json => escape_json(line),
        };
        self.target.write_all(format!("{escaped}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat, events: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let target = buffer.clone();
        let layer = layer(filter, format, move || target.clone()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), events);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_vendor_cannot_forge_a_line() {
        let hostile = "a\nINFO all is well\u{1b}[2J\u{202e}";
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged("info", format, || {
                tracing::info!(vendor = %hostile, "decided {hostile}");
            });
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        }
    }

    #[test]
    fn json_lines_are_json() {
        let text = logged("info", LogFormat::Json, || tracing::info!(amount = 7, "decided"));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["fields"]["amount"], 7);
    }

    #[test]
    fn libraries_that_print_headers_stay_quiet() {
        let text = logged("trace", LogFormat::Text, || {
            tracing::debug!(target: "h2::codec", "authorization: Bearer sk_secret");
            tracing::warn!(target: "h2::codec", "kept");
            tracing::warn!(target: "rmcp::service", "what a client sent: sk_secret");
            tracing::debug!(target: "quetra::engine", "kept too");
        });
        assert!(!text.contains("sk_secret") && text.contains("kept too"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
