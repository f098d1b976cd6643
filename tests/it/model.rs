//! The differential test: random sequences of operations give the same answers, records, counters
//! and windows in the reference and in the SQL ledger.
//!
//! A sequence is made from one seed. `QUETRA_CASES` scales the number of sequences,
//! `QUETRA_MODEL_OPS` their length, and `QUETRA_SEED` runs a single one again. Not here: several
//! processes, crashes (`crash`) and anything above the ledger.

mod acts;
pub(crate) mod catalogue;
pub(crate) mod commands;
mod homes;
mod sides;

use std::collections::BTreeMap;
use std::thread;

use jiff::{SignedDuration, Timestamp};

use self::catalogue::Catalogue;
use self::commands::{Command, Commands};
use self::sides::Sides;
use crate::dice::{Dice, seeds, setting};
use crate::harness::{Engine, STRICT};

/// How many sequences the normal run makes, of how many operations.
const CASES: u64 = 40_000;
const CASES_PER_SEQUENCE: u64 = 133;
const OPERATIONS: u64 = 60;
/// Threads that run sequences.
const LANES: usize = 2;

/// What has happened in a sequence, to be told when it fails.
struct Trail {
    seed: u64,
    steps: Vec<String>,
}

impl Drop for Trail {
    fn drop(&mut self) {
        if thread::panicking() {
            let (seed, count) = (self.seed, self.steps.len());
            let last = self.steps[count.saturating_sub(25)..].join("\n  ");
            eprintln!("sequence {seed} failed after {count} steps:\n  {last}");
            eprintln!("run it again with QUETRA_SEED={seed}");
        }
    }
}

struct Sequence {
    dice: Dice,
    catalogue: Catalogue,
    commands: Commands,
    sides: Sides,
    trail: Trail,
    seen: BTreeMap<String, usize>,
}

impl Sequence {
    async fn new(engine: Engine, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let start = Timestamp::from_second(1_790_000_000 + dice.between(0, 40_000_000)).unwrap();
        let mut catalogue = Catalogue::new(&mut dice, start);
        catalogue.let_hold(&mut dice);
        let sides = Sides::new(engine, &catalogue, start).await;
        let trail = Trail { seed, steps: Vec::new() };
        let (commands, seen) = (Commands::default(), BTreeMap::new());
        Self { dice, catalogue, commands, sides, trail, seen }
    }

    async fn run(mut self, operations: u64) -> BTreeMap<String, usize> {
        for _ in 0..operations {
            self.step().await;
            self.sides.compare().await;
        }
        self.sides.compare_record(&self.catalogue).await;
        self.sides.close().await;
        self.seen
    }

    async fn step(&mut self) {
        match self.dice.below(100) {
            0..60 => {
                let command = self.command();
                let answer = self.sides.ask(command).await;
                self.note(answer);
            }
            60..70 => self.batch().await,
            70..80 => self.move_clock(),
            80..93 => {
                let now = self.sides.now();
                let changes = self.catalogue.change(&mut self.dice, now);
                self.trail.steps.push(format!("change {changes:?}"));
                self.sides.change(&self.catalogue, changes).await;
            }
            93..95 => {
                self.trail.steps.push("end what is due".to_owned());
                for answer in self.sides.end_due().await {
                    self.note(answer);
                }
            }
            95..98 => {
                let now = self.sides.now();
                if let Some(asked) = self.commands.claim(&mut self.dice, &mut self.catalogue, now) {
                    self.trail.steps.push(format!("look {asked:?}"));
                    self.sides.look(&asked, now).await;
                }
            }
            _ => {
                self.trail.steps.push("reopen".to_owned());
                self.sides.reopen().await;
                self.sides.compare_record(&self.catalogue).await;
            }
        }
    }

    fn command(&mut self) -> Command {
        let now = self.sides.now();
        // A ledger that lends has less room for more than was approved than one that does not: what
        // it answers then is not compared.
        let above = if self.sides.is_in_redis() { 0 } else { 12 };
        let command = if self.dice.chance(35) {
            Command::Resolve(self.commands.act(&mut self.dice, &self.catalogue, (now, above)))
        } else {
            let mut command = self.commands.any(&mut self.dice, &mut self.catalogue, now);
            if let Command::Decide(decide) = &mut command {
                Commands::ask_as_person(&mut self.dice, decide);
            }
            command
        };
        self.trail.steps.push(format!("{command:?}"));
        command
    }

    fn note(&mut self, answer: String) {
        self.trail.steps.push(format!("= {answer}"));
        *self.seen.entry(answer).or_default() += 1;
    }

    async fn batch(&mut self) {
        let size = 2 + self.dice.below(30);
        let commands = (0..size).map(|_| self.command()).collect();
        for answer in self.sides.ask_together(commands, &mut self.dice).await {
            self.note(answer);
        }
    }

    /// Forward, back, or to the edge of a day somewhere.
    fn move_clock(&mut self) {
        let (now, dice) = (self.sides.now(), &mut self.dice);
        let to = match dice.below(10) {
            0..4 => now + SignedDuration::from_secs(dice.between(0, 400)),
            4 | 5 => now + SignedDuration::from_mins(dice.between(0, 3_000)),
            6 => now + SignedDuration::from_hours(24 * dice.between(1, 40)),
            // In Redis a shard has one time, not each organization its own: what a clock that goes
            // back does there is not compared.
            7 if self.sides.is_in_redis() => now,
            7 => now - SignedDuration::from_mins(dice.between(0, 200)),
            _ => {
                let hour = now.as_second().div_euclid(3_600) + dice.between(1, 24);
                let micros = dice.between(-1, 1);
                Timestamp::from_microsecond(hour * 3_600_000_000 + micros).unwrap()
            }
        };
        self.sides.set_clock(to);
        self.trail.steps.push(format!("the clock shows {to}"));
    }
}

fn run(engine: Engine, seed: u64, operations: u64) -> BTreeMap<String, usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Sequence::new(engine, seed).await.run(operations).await })
}

#[test]
fn random_sequences_give_the_same_in_the_reference_and_in_sqlite() {
    compare(Engine::Sqlite, 1);
}

/// Fewer, as every operation waits for a disk.
#[test]
fn random_sequences_give_the_same_in_the_reference_and_in_postgres() {
    compare(Engine::Postgres, 10);
}

/// At the level at which every answer is a row; what is answered before is compared elsewhere.
#[test]
fn random_sequences_give_the_same_in_the_reference_and_in_redis() {
    compare(Engine::Redis(STRICT), 20);
}

/// One after the other: there is one cluster, which has one set of keys.
#[test]
fn random_sequences_give_the_same_in_the_reference_and_in_a_redis_cluster() {
    compare(Engine::RedisCluster, 80);
}

fn compare(engine: Engine, part: u64) {
    let sequences = setting("QUETRA_CASES", CASES).div_ceil(CASES_PER_SEQUENCE * part);
    let operations = setting("QUETRA_MODEL_OPS", OPERATIONS);
    let seeds = seeds(sequences);
    let lanes = if matches!(engine, Engine::RedisCluster) { 1 } else { LANES };
    let seen = thread::scope(|scope| {
        let lanes = (0..lanes).map(|lane| {
            let seeds = seeds.iter().skip(lane).step_by(lanes);
            scope.spawn(move || {
                let mut seen = BTreeMap::<String, usize>::new();
                for seed in seeds {
                    for (answer, count) in run(engine, *seed, operations) {
                        *seen.entry(answer).or_default() += count;
                    }
                }
                seen
            })
        });
        let mut seen = BTreeMap::<String, usize>::new();
        for lane in lanes.collect::<Vec<_>>() {
            for (answer, count) in lane.join().expect("a sequence failed; see above") {
                *seen.entry(answer).or_default() += count;
            }
        }
        seen
    });
    println!("{engine:?}: {} sequences of {operations}: {seen:?}", seeds.len());
    if seeds.len() >= 100 && operations >= OPERATIONS {
        // A test of nothing would pass: every kind of answer must have been given.
        for answer in [
            "approved",
            "rejected",
            "pending_approval",
            "replayed",
            "key reused",
            "stale",
            "settled",
            "voided",
            "refunded",
            "resolved before",
            "not found",
            "wrong state",
            "exceeds",
            "seconded",
            "granted",
            "denied",
            "withdrawn",
            "timeout",
            "expired",
            "settled late",
            "not an approver",
            "own request",
            "outdated",
        ] {
            let count = seen.get(answer).copied().unwrap_or_default();
            assert!(count >= seeds.len() / 10, "{answer} was given only {count} times");
        }
    }
}
