//! Money: no limit is exceeded, what each decision saw is what the record before it says, and it
//! was charged in the right windows.
//!
//! Money returns at a time that the row tells, decisions are made at a time that theirs tells;
//! where both are equal, their order is unknown and either is believed. Not here: whether a reason
//! to refuse was true (`words`).

use std::collections::{BTreeMap, HashMap};

use super::books::{Books, Entry, Most, Rate, Terms};
use super::caps::{Calendar, Limit, counts};
use super::{Findings, Invariant, by_mandate};

/// What a counter may have stood at: spent and held, at least and at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) spent: (i64, i64),
    pub(super) held: (i64, i64),
    /// Of both together.
    least: i64,
}

impl Range {
    fn has(&self, (spent, held): (i64, i64)) -> bool {
        (self.spent.0..=self.spent.1).contains(&spent)
            && (self.held.0..=self.held.1).contains(&held)
    }

    pub(super) const fn least(&self) -> i64 {
        self.least
    }

    pub(super) const fn most(&self) -> i64 {
        self.spent.1 + self.held.1
    }
}

/// Count, sum and the time of the oldest approval in a sliding window.
pub(super) type Inside = (i64, i64, Option<i64>);

/// What a decision was made in.
#[derive(Debug, Default)]
pub(super) struct Situation {
    pub(super) limits: Vec<(Limit, Range)>,
    pub(super) rates: Vec<(Rate, Inside)>,
}

/// A place in the record.
pub(super) type Place = (String, i64);

pub(super) fn place(entry: &Entry) -> Place {
    (entry.chain.clone(), entry.seq)
}

/// How every decision stood, by its place.
pub(super) fn situations(books: &Books) -> BTreeMap<Place, Situation> {
    let mut calendar = Calendar::default();
    let mut situations = BTreeMap::new();
    for entries in by_mandate(books).into_values() {
        let mut tests = HashMap::<(String, i64, i64), Vec<usize>>::new();
        let mut found = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let mut situation = Situation::default();
            if let Some(terms) = entry.terms(books) {
                for limit in calendar.limits(terms, entry) {
                    let key = (limit.subject.clone(), limit.starts_at, limit.ends_at);
                    let tested = tests.entry(key).or_default();
                    if tested.last() != Some(&index) {
                        tested.push(index);
                    }
                    situation.limits.push((limit, Range::default()));
                }
                situation.rates = rates(terms, &entries[..index], entry.decided_at);
            }
            found.push(situation);
        }
        for ((subject, starts_at, ends_at), tested) in &tests {
            let members = entries.iter().enumerate().filter(|(_, entry)| {
                (*starts_at..*ends_at).contains(&entry.decided_at) && counts(subject, entry)
            });
            let members = members.map(|(at, entry)| (at, *entry)).collect::<Vec<_>>();
            let times = tested.iter().map(|at| (*at, entries[*at].decided_at));
            let ranges = ranges(&members, &times.collect::<Vec<_>>());
            for (at, range) in tested.iter().zip(ranges) {
                for (limit, place) in &mut found[*at].limits {
                    if (&limit.subject, limit.starts_at) == (subject, *starts_at) {
                        *place = range;
                    }
                }
            }
        }
        let places = entries.iter().map(|entry| place(entry));
        situations.extend(places.zip(found));
    }
    situations
}

/// What sliding windows have in them that end now and are open at their start.
fn rates(terms: &Terms, before: &[&Entry], now: i64) -> Vec<(Rate, Inside)> {
    let of = |rate: &Rate| {
        let start = now - rate.minutes * 60_000_000;
        let from = before.partition_point(|entry| entry.decided_at <= start);
        let inside = before[from..].iter().filter(|entry| !entry.is_rejected());
        let (mut count, mut sum, mut oldest) = (0, 0, None);
        for entry in inside {
            (count, sum) = (count + 1, sum + entry.amount);
            oldest = oldest.or(Some(entry.decided_at));
        }
        (*rate, (count, sum, oldest))
    };
    terms.rates.iter().map(of).collect()
}

/// How what a counter can be counts on, as bounds: least spent, most spent, least held, most held,
/// and least of both together.
type Bounds = [i64; 5];

/// A change of the bounds: when, and by which member.
type Change = (i64, usize, Bounds);

/// The bounds of these loads.
fn bounds(loads: &[(i64, i64)]) -> Bounds {
    let over = |of: fn(&(i64, i64)) -> i64| {
        let values = loads.iter().map(of).collect::<Vec<_>>();
        (*values.iter().min().unwrap(), *values.iter().max().unwrap())
    };
    let (spent, held, both) =
        (over(|load| load.0), over(|load| load.1), over(|load| load.0 + load.1));
    [spent.0, spent.1, held.0, held.1, both.0]
}

fn plus(one: Bounds, other: Bounds) -> Bounds {
    std::array::from_fn(|place| one[place] + other[place])
}

fn minus(one: Bounds, other: Bounds) -> Bounds {
    std::array::from_fn(|place| one[place] - other[place])
}

/// Changes in the order of time, of which those of later members wait for their turn.
struct Changes {
    sorted: Vec<Change>,
    next: usize,
    waiting: Vec<Change>,
    sum: Bounds,
}

impl Changes {
    fn new(mut sorted: Vec<Change>) -> Self {
        sorted.sort_unstable();
        Self { sorted, next: 0, waiting: Vec::new(), sum: [0; 5] }
    }

    /// What has changed until then by members before this one.
    fn until(&mut self, is_due: impl Fn(i64) -> bool, index: usize) -> Bounds {
        while let Some(change) = self.sorted.get(self.next).filter(|change| is_due(change.0)) {
            self.waiting.push(*change);
            self.next += 1;
        }
        let sum = &mut self.sum;
        self.waiting.retain(|(_, member, change)| {
            let is_charged = *member < index;
            if is_charged {
                *sum = plus(*sum, *change);
            }
            !is_charged
        });
        self.sum
    }
}

/// What a counter may have stood at before each of these decisions.
fn ranges(members: &[(usize, &Entry)], tested: &[(usize, i64)]) -> Vec<Range> {
    let (mut sure, mut possible) = (Vec::new(), Vec::new());
    for (index, entry) in members {
        let (first, last) = (entry.first_load(), entry.last_load());
        let mut between = entry.loads_between();
        let (at_first, until_last) = (bounds(&[first]), bounds(&between));
        between.push(last);
        let at_last = bounds(&between);
        possible.push((entry.decided_at, *index, minus(until_last, at_first)));
        possible.push((entry.updated_at, *index, minus(at_last, until_last)));
        // Then nothing but the last is possible.
        sure.push((entry.updated_at, *index, minus(bounds(&[last]), at_last)));
    }
    let (mut sure, mut possible) = (Changes::new(sure), Changes::new(possible));
    let (mut next, mut charged) = (0, [0; 5]);
    let mut found = Vec::new();
    for (index, now) in tested {
        while let Some((_, entry)) = members.get(next).filter(|(at, _)| at < index) {
            charged = plus(charged, bounds(&[entry.first_load()]));
            next += 1;
        }
        let surely = sure.until(|at| at < *now, *index);
        let possibly = possible.until(|at| at <= *now, *index);
        let [least_spent, most_spent, least_held, most_held, least] =
            plus(charged, plus(surely, possibly));
        found.push(Range {
            spent: (least_spent, most_spent),
            held: (least_held, most_held),
            least,
        });
    }
    found
}

/// The fewest charges that show that a limit was exceeded: the largest first.
fn culprits<'a>(entries: &[&'a Entry], last: &'a Entry, limit: &Limit) -> Vec<&'a Entry> {
    let window = limit.starts_at..limit.ends_at;
    let mut rows = entries.iter().copied().filter(|entry| {
        entry.seq < last.seq
            && window.contains(&entry.decided_at)
            && counts(&limit.subject, entry)
            && !entry.is_rejected()
    });
    let still = |entry: &Entry| match entry.updated_at < last.decided_at {
        true => entry.last_load(),
        false => entry.first_load(),
    };
    let mut rows = rows.by_ref().collect::<Vec<_>>();
    rows.sort_by_key(|entry| {
        let (spent, held) = still(entry);
        std::cmp::Reverse(spent + held)
    });
    let (mut sum, mut shown) = (last.amount, Vec::new());
    for entry in rows {
        if sum > limit.limit {
            break;
        }
        let (spent, held) = still(entry);
        sum += spent + held;
        shown.push(entry);
    }
    shown.push(last);
    shown.sort_by_key(|entry| entry.seq);
    shown
}

pub(super) fn check(books: &Books, found: &mut Findings) {
    let situations = situations(books);
    for entries in by_mandate(books).into_values() {
        for entry in &entries {
            let situation = &situations[&place(entry)];
            if entry.terms(books).is_none() {
                continue;
            }
            if !entry.is_rejected() {
                limits(entry, situation, &entries, found);
            }
            match books.escrow {
                None => seen(entry, situation, found),
                Some(_) => seen_in_redis(entry, situation, found),
            }
            looked(entry, situation, found);
        }
    }
}

/// What was approved or held fits under every limit.
fn limits(entry: &Entry, situation: &Situation, all: &[&Entry], found: &mut Findings) {
    for (limit, range) in &situation.limits {
        let over = range.least() + entry.amount - limit.limit;
        if over > 0 {
            let what = format!("{}: {over} over the limit of {}", entry.id, limit.subject);
            found.rows(Invariant::NoOverspend, what, &culprits(all, entry, limit));
        }
    }
    for (rate, (count, sum, _)) in &situation.rates {
        let over = match rate.most {
            Most::Count(most) => *count >= most,
            Most::Sum(most) => sum + entry.amount > most,
        };
        if over {
            let start = entry.decided_at - rate.minutes * 60_000_000;
            let inside = all.iter().copied().filter(|other| {
                other.seq <= entry.seq && other.decided_at > start && !other.is_rejected()
            });
            let what = format!("{}: over the rate of {} minutes", entry.id, rate.minutes);
            found.rows(Invariant::NoOverspend, what, &inside.collect::<Vec<_>>());
        }
    }
}

/// The counters of a decision, each once.
pub(super) fn counters(situation: &Situation) -> Vec<(&Limit, Range)> {
    let mut wanted = Vec::<(&Limit, Range)>::new();
    for (limit, range) in &situation.limits {
        let same = |(other, _): &(&Limit, Range)| {
            (&other.subject, other.starts_at) == (&limit.subject, limit.starts_at)
        };
        if !wanted.iter().any(same) {
            wanted.push((limit, *range));
        }
    }
    wanted
}

/// The counters stood at what the decision says it saw.
fn seen(entry: &Entry, situation: &Situation, found: &mut Findings) {
    let wanted = counters(situation);
    let levels = &entry.evidence.levels;
    let agrees = levels.len() == wanted.len()
        && wanted.iter().zip(levels).all(|((_, range), level)| range.has(*level));
    if !agrees {
        let what = format!("{}: it saw {levels:?} where there was {wanted:?}", entry.id);
        found.rows(Invariant::Parity, what, &[entry]);
    }
}

/// What Redis saw is as of a lease, and allows what was approved.
fn seen_in_redis(entry: &Entry, situation: &Situation, found: &mut Findings) {
    let wanted = counters(situation);
    let levels = &entry.evidence.levels;
    let fits = |((limit, _), (spent, held)): (&(&Limit, Range), &(i64, i64))| {
        entry.is_rejected() || spent + held + entry.amount <= limit.limit
    };
    if levels.len() != wanted.len() || !wanted.iter().zip(levels).all(fits) {
        let what = format!("{}: {} although it saw {levels:?}", entry.id, entry.verdict);
        found.rows(Invariant::Parity, what, &[entry]);
    }
}

/// What the decision says it saw in sliding windows, and where it says it was charged.
fn looked(entry: &Entry, situation: &Situation, found: &mut Findings) {
    let wanted = counters(situation);
    let rates = situation
        .rates
        .iter()
        .map(|(_, (count, sum, oldest))| (*count, *sum, oldest.map(|at| entry.decided_at - at)));
    let rates = rates.collect::<Vec<_>>();
    if rates != entry.evidence.windows {
        let saw = &entry.evidence.windows;
        let what = format!("{}: it saw the windows {saw:?}, not {rates:?}", entry.id);
        found.rows(Invariant::Parity, what, &[entry]);
    }
    let charged = match entry.is_rejected() {
        true => Vec::new(),
        false => {
            let keys = wanted.iter().map(|(limit, _)| (limit.subject.clone(), limit.starts_at));
            keys.collect::<Vec<_>>()
        }
    };
    if charged != entry.evidence.charged {
        let said = &entry.evidence.charged;
        let what = format!("{}: it was charged to {said:?}, not {charged:?}", entry.id);
        found.rows(Invariant::Time, what, &[entry]);
    }
}
