//! Where each field of a YAML file stands, so that the server's complaints point at a line.
//!
//! The server names fields as the API does (`rules[2].time_window.timezone`), the file as the
//! published forms do (`rules[2].timezone`); the table of the differences is here.
//! Not here: reading the values (`mandate_file`).

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Parser};

/// The fields of one file and their lines.
#[derive(Clone, Debug)]
pub(super) struct Places {
    file: String,
    at: BTreeMap<String, (usize, usize)>,
}

/// An open collection while the file is walked.
enum Frame {
    Sequence { path: String, next: usize },
    Mapping { path: String, key: Option<String> },
}

impl Places {
    /// Walks a file that is already known to be YAML; from a mistake on nothing is known.
    pub(super) fn new(file: &str, text: &str) -> Self {
        let mut walk = Walk { at: BTreeMap::new(), open: Vec::new() };
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let place = (span.start.line(), span.start.col().saturating_add(1));
            walk.event(&event, place);
        }
        Self { file: file.to_owned(), at: walk.at }
    }

    /// Whether the file's top level has this field.
    pub(super) fn has(&self, field: &str) -> bool {
        self.at.contains_key(field)
    }

    /// `file:line:column` of a field as the API names it, or of what surrounds it in the file.
    pub(super) fn of(&self, field: &str) -> Option<String> {
        let mut path = String::new();
        for step in steps(field) {
            let next = names(&step).into_iter().map(|name| joined(&path, &name));
            // A step without a counterpart, such as the kind of a rule, has no line of its own.
            if let Some(found) = next.into_iter().find(|next| self.at.contains_key(next)) {
                path = found;
            }
        }
        let (line, column) = self.at.get(&path)?;
        Some(format!("{}:{line}:{column}", self.file))
    }
}

struct Walk {
    at: BTreeMap<String, (usize, usize)>,
    open: Vec<Frame>,
}

impl Walk {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "comments and the borders of the stream hold no field"
    )]
    fn event(&mut self, event: &Event<'_>, place: (usize, usize)) {
        match event {
            Event::Scalar(text, ..) => {
                if let Some(Frame::Mapping { path, key: key @ None }) = self.open.last_mut() {
                    self.at.insert(joined(path, text), place);
                    *key = Some(text.to_string());
                } else {
                    self.begin(place);
                }
            }
            Event::Alias(_) => {
                self.begin(place);
            }
            Event::SequenceStart(..) => {
                let path = self.begin(place);
                self.open.push(Frame::Sequence { path, next: 0 });
            }
            Event::MappingStart(..) => {
                let path = self.begin(place);
                self.open.push(Frame::Mapping { path, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            _ => {}
        }
    }

    /// Notes where a value begins and returns its path.
    fn begin(&mut self, place: (usize, usize)) -> String {
        match self.open.last_mut() {
            Some(Frame::Sequence { path, next }) => {
                let item = format!("{path}[{next}]");
                *next = next.saturating_add(1);
                self.at.insert(item.clone(), place);
                item
            }
            Some(Frame::Mapping { path, key }) => {
                // Its line is that of its key, noted already. A collection as a key has no name.
                let name = key.take().unwrap_or_else(|| "?".to_owned());
                joined(path, &name)
            }
            None => String::new(),
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() || name.starts_with('[') {
        format!("{path}{name}")
    } else {
        format!("{path}.{name}")
    }
}

/// `rules[2].time_window` as `rules`, `[2]`, `time_window`.
fn steps(field: &str) -> Vec<String> {
    let mut steps = Vec::new();
    for part in field.split('.') {
        let mut pieces = part.split('[');
        steps.extend(pieces.next().filter(|name| !name.is_empty()).map(str::to_owned));
        steps.extend(pieces.map(|index| format!("[{index}")));
    }
    steps
}

/// What a field of the API may be called in the file.
fn names(step: &str) -> Vec<String> {
    let published: &[&str] = match step {
        "agent_id" => &["agentId", "agent"],
        "reset" => &["resetInterval"],
        "vendors" => &["allowed", "blocked", "vendors"],
        "allowed_countries" => &["allowed"],
        "blocked_countries" => &["blocked"],
        "start" => &["start", "startHour"],
        "end" => &["end", "endHour"],
        "approver_roles" => &["approverIds", "approverRoles"],
        _ => return vec![camel(step)],
    };
    published.iter().map(|name| (*name).to_owned()).collect()
}

fn camel(name: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for letter in name.chars() {
        if letter == '_' {
            upper = true;
        } else {
            out.push(if upper { letter.to_ascii_uppercase() } else { letter });
            upper = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# a comment
agent: demo
budget:
  total: 100 # cents
  perTransaction: 10
rules:
  - type: category
    allowed: [research, &x tools]
  - {type: vendor_cap, vendor: a.com, amount: 5, period: daily}
  - type: time_window
    days: [1, 9]
    startHour: 9
    end: \"17:30\"
    timezone: Mars/Base
  - type: category_cap
    category: *x
    amount: 0
";

    #[test]
    fn fields_of_the_api_are_found_in_the_file() {
        let places = Places::new("m.yaml", FILE);
        let table = [
            ("agent_id", "m.yaml:2:1"),
            ("budget", "m.yaml:3:1"),
            ("budget.per_transaction", "m.yaml:5:3"),
            ("budget.currency", "m.yaml:3:1"),
            ("rules[0].category.allowed[1]", "m.yaml:8:28"),
            ("rules[1].vendor_cap.amount", "m.yaml:9:39"),
            ("rules[2].time_window.timezone", "m.yaml:14:5"),
            ("rules[2].time_window.days[1]", "m.yaml:11:15"),
            ("rules[2].time_window.start", "m.yaml:12:5"),
            ("rules[2].time_window.end", "m.yaml:13:5"),
            ("rules[3].category_cap.category", "m.yaml:16:5"),
            ("rules[3].category_cap.amount", "m.yaml:17:5"),
            ("rules[3].category_cap", "m.yaml:15:5"),
        ];
        for (field, expected) in table {
            assert_eq!(places.of(field).as_deref(), Some(expected), "{field}");
        }
        assert_eq!(places.of("idempotency_key"), None);
        assert!(places.has("agent") && !places.has("agentId"));
    }

    #[test]
    fn nothing_is_known_of_a_broken_file() {
        for text in ["", "[", "a: [b: }", "? [x]\n: y\n", "\t"] {
            assert_eq!(Places::new("m.yaml", text).of("rules[0].category"), None, "{text}");
        }
    }
}
