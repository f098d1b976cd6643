//! Sliding windows in Redis: what the script finds in them is what a walk over all approvals finds.
//!
//! The scripts are run by themselves, on approvals that come in bursts and after long pauses. Not
//! here: what a window refuses (`domain`), and the ledger as a whole (`model`).

use redis::{Connection, Value};

use crate::dice::{Dice, seeds};
use crate::harness::redis::Redis;
use crate::tidy::read;

/// Decisions of one case: enough that old approvals are dropped more than once.
const DECISIONS: usize = 6_000;

/// Lengths of the windows in microseconds, and whether what is bounded is a sum.
const WINDOWS: [(i64, bool); 3] = [(60_000_000, false), (3_600_000_000, true), (1_000_000, false)];

/// No bound that is met.
const ENOUGH: i64 = 1 << 52;

fn pack(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A mandate with windows and a slice that does not end, in a Redis of its own.
struct Scripts {
    connection: Connection,
    decide: String,
    windows: String,
    keys: u64,
}

impl Scripts {
    fn new(redis: &Redis) -> Self {
        redis.ask("FLUSHALL");
        let client = redis::Client::open(redis.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let auth = [pack(&[1, 0]), b"windows".to_vec()].concat();
        let slice = pack(&[1, 1, ENOUGH, 0, 0, ENOUGH + 1]);
        for (key, value) in [("auth", auth), ("b", slice)] {
            redis::cmd("SET").arg(key).arg(value).exec(&mut connection).unwrap();
        }
        let script = |name: &str| read(&format!("src/ledger/redis/scripts/{name}.lua"));
        Self { connection, decide: script("decide"), windows: script("windows"), keys: 0 }
    }

    fn load(&mut self, approvals: &[(i64, i64)]) {
        let approvals = approvals.iter().flat_map(|(at, amount)| pack(&[*at, *amount]));
        let mut call = redis::cmd("EVAL");
        call.arg(&self.windows).arg(2).arg("auth").arg("t").arg(pack(&[1])).arg(pack(&[1, 1]));
        call.arg(approvals.collect::<Vec<_>>()).arg(86_400_000).arg(WINDOWS.len());
        let said: Vec<Value> = call.query(&mut self.connection).unwrap();
        assert_eq!(said, [Value::BulkString(b"LOADED".to_vec())]);
    }

    /// Approves an amount; when that was, and count, sum and oldest of each window before it.
    fn approve(&mut self, amount: i64, now: i64) -> (i64, Vec<[i64; 3]>) {
        found("APPROVED", &self.decide(amount, now, None))
    }

    /// Asks for a decision, or for a rejection that was proved at a time.
    fn decide(&mut self, amount: i64, now: i64, proved_at: Option<i64>) -> Vec<Value> {
        self.keys += 1;
        let mode = if proved_at.is_some() { 3 } else { 0 };
        let head = pack(&[1, amount, now, 0, proved_at.unwrap_or_default()]);
        let head = [head, vec![mode, 2, 0, 2, 0]].concat();
        let mut windows = pack(&[1, 1]);
        for (length, is_sum) in WINDOWS {
            windows.extend(pack(&[length]));
            windows.push(u8::from(is_sum));
            windows.extend(pack(&[ENOUGH]));
        }
        let mut call = redis::cmd("EVAL");
        call.arg(&self.decide).arg(8).arg("out").arg("t").arg("auth");
        call.arg(format!("i{}", self.keys)).arg("o").arg("a").arg("m").arg("b");
        call.arg(head).arg([7_u8; 16].as_slice()).arg("").arg("").arg("");
        call.arg(pack(&[0, ENOUGH])).arg(windows).arg(pack(&[5, 0])).arg("entry");
        call.query(&mut self.connection).unwrap()
    }
}

/// When it was decided, and what each window had.
fn found(word: &str, said: &[Value]) -> (i64, Vec<[i64; 3]>) {
    assert_eq!(said.first(), Some(&Value::BulkString(word.into())), "{said:?}");
    let Some(Value::BulkString(facts)) = said.get(2) else { panic!("{said:?}") };
    let number = |at: usize| i64::from_be_bytes(facts[at..at + 8].try_into().unwrap());
    let window = |index: usize| [0, 8, 16].map(|at| number(27 + index * 24 + at));
    (number(0), (0..WINDOWS.len()).map(window).collect())
}

/// The same by looking at every approval.
fn walk(approvals: &[(i64, i64)], now: i64) -> Vec<[i64; 3]> {
    let window = |(length, _)| {
        let from = approvals.partition_point(|(at, _)| *at <= now - length);
        let within = &approvals[from..];
        let oldest = within.first().map_or(0, |(at, _)| *at);
        [within.len().try_into().unwrap(), within.iter().map(|(_, amount)| amount).sum(), oldest]
    };
    WINDOWS.into_iter().map(window).collect()
}

/// How much later the next decision is: mostly at once, at times after a pause.
fn pause(dice: &mut Dice) -> i64 {
    match dice.below(400) {
        0 => dice.between(0, 7_200_000_000),
        1..20 => dice.between(0, 30_000_000),
        20..200 => dice.between(0, 100_000),
        // The clock of another server may be behind.
        200..250 => -dice.between(0, 1_000),
        _ => 0,
    }
}

#[test]
fn a_window_in_redis_is_what_a_walk_over_all_approvals_finds() {
    let redis = Redis::start("everysec");
    for seed in seeds(3) {
        let mut dice = Dice::new(seed);
        let mut scripts = Scripts::new(&redis);
        let mut now = 1_790_000_000_000_000;
        let mut approvals = Vec::new();
        for _ in 0..dice.below(3_000) {
            now += pause(&mut dice).max(0);
            approvals.push((now, dice.between(0, 500)));
        }
        scripts.load(&approvals);
        for decision in 0..DECISIONS {
            now += pause(&mut dice);
            let amount = dice.between(0, 500);
            let (at, windows) = scripts.approve(amount, now);
            assert_eq!(windows, walk(&approvals, at), "seed {seed}, decision {decision}");
            approvals.push((at, amount));
        }
        let in_order = approvals.iter().is_sorted_by_key(|(at, _)| *at);
        assert!(in_order, "seed {seed}: an approval is earlier than the one before");
    }
}

#[test]
fn a_refusal_has_the_windows_of_its_proof_and_is_proved_again_if_something_came_into_them() {
    let redis = Redis::start("everysec");
    let mut scripts = Scripts::new(&redis);
    let start = 1_790_000_000_000_000;
    scripts.load(&[]);
    let approvals = [(start, 40), (start + 900_000, 7)];
    for (at, amount) in approvals {
        scripts.approve(amount, at);
    }
    // The script runs later than the proof was made, when one window has let an approval go.
    let proved_at = start + 950_000;
    let said = scripts.decide(9, start + 1_500_000, Some(proved_at));
    assert_eq!(found("REJECTED", &said), (proved_at, walk(&approvals, proved_at)));
    let said = scripts.decide(9, start + 1_500_000, Some(start + 899_999));
    assert_eq!(said, [Value::BulkString(b"PROVE".to_vec())]);
    // Nothing that follows is earlier than what was seen.
    assert_eq!(scripts.approve(1, start).0, start + 1_500_000);
}
